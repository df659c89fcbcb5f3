"""The layouts of the SunSpec information models that the edge reads or writes, one line of points after another.

Source: SunSpec Device Information Model Reference (models 1 to 802) and SunSpec DER Information Model Specification (701 to 715),
written down in the notation of this package and compared point by point with the definitions in the `sunspec2` package by
`tests/edge/devices/test_sunspec_tables.py`.

`model 103=name` opens the layout of one or more models. A point is `name:type*scale@unit!`: the scale is the name of the point that
holds the power of ten, `!` marks what a client may write. Types: `u i e b a f` with their width in bits (unsigned, signed,
enumeration, bit field, accumulator, float), `sf` scale factor, `cnt` group count, `pad`, and `s16` a string of 16 registers.
`[name/N` to `]` is a group repeated as often as the point N says; without `/N` it stands once. ID and L open every model.
"""

LAYOUTS = """
model 1=common
  Mn:s16 Md:s16 Opt:s8 Vr:s8 SN:s16 DA:u16! Pad:pad
model 101=inverter_single_phase 102=inverter_split_phase 103=inverter_three_phase
  A:u16*A_SF@A AphA:u16*A_SF@A AphB:u16*A_SF@A AphC:u16*A_SF@A A_SF:sf PPVphAB:u16*V_SF@V PPVphBC:u16*V_SF@V
  PPVphCA:u16*V_SF@V PhVphA:u16*V_SF@V PhVphB:u16*V_SF@V PhVphC:u16*V_SF@V V_SF:sf W:i16*W_SF@W W_SF:sf
  Hz:u16*Hz_SF@Hz Hz_SF:sf VA:i16*VA_SF@VA VA_SF:sf VAr:i16*VAr_SF@var VAr_SF:sf PF:i16*PF_SF@% PF_SF:sf
  WH:a32*WH_SF@Wh WH_SF:sf DCA:u16*DCA_SF@A DCA_SF:sf DCV:u16*DCV_SF@V DCV_SF:sf DCW:i16*DCW_SF@W DCW_SF:sf
  TmpCab:i16*Tmp_SF@C TmpSnk:i16*Tmp_SF@C TmpTrns:i16*Tmp_SF@C TmpOt:i16*Tmp_SF@C Tmp_SF:sf St:e16 StVnd:e16
  Evt1:b32 Evt2:b32 EvtVnd1:b32 EvtVnd2:b32 EvtVnd3:b32 EvtVnd4:b32
model 111=inverter_single_phase_float 112=inverter_split_phase_float 113=inverter_three_phase_float
  A:f32@A AphA:f32@A AphB:f32@A AphC:f32@A PPVphAB:f32@V PPVphBC:f32@V PPVphCA:f32@V PhVphA:f32@V PhVphB:f32@V
  PhVphC:f32@V W:f32@W Hz:f32@Hz VA:f32@VA VAr:f32@var PF:f32@% WH:f32@Wh DCA:f32@A DCV:f32@V DCW:f32@W TmpCab:f32@C
  TmpSnk:f32@C TmpTrns:f32@C TmpOt:f32@C St:e16 StVnd:e16 Evt1:b32 Evt2:b32 EvtVnd1:b32 EvtVnd2:b32 EvtVnd3:b32
  EvtVnd4:b32
model 120=nameplate
  DERTyp:e16 WRtg:u16*WRtg_SF@W WRtg_SF:sf VARtg:u16*VARtg_SF@VA VARtg_SF:sf VArRtgQ1:i16*VArRtg_SF@var
  VArRtgQ2:i16*VArRtg_SF@var VArRtgQ3:i16*VArRtg_SF@var VArRtgQ4:i16*VArRtg_SF@var VArRtg_SF:sf ARtg:u16*ARtg_SF@A
  ARtg_SF:sf PFRtgQ1:i16*PFRtg_SF@cos PFRtgQ2:i16*PFRtg_SF@cos PFRtgQ3:i16*PFRtg_SF@cos PFRtgQ4:i16*PFRtg_SF@cos
  PFRtg_SF:sf WHRtg:u16*WHRtg_SF@Wh WHRtg_SF:sf AhrRtg:u16*AhrRtg_SF@Ah AhrRtg_SF:sf MaxChaRte:u16*MaxChaRte_SF@W
  MaxChaRte_SF:sf MaxDisChaRte:u16*MaxDisChaRte_SF@W MaxDisChaRte_SF:sf Pad:pad
model 121=settings
  WMax:u16*WMax_SF@W! VRef:u16*VRef_SF@V! VRefOfs:i16*VRefOfs_SF@V! VMax:u16*VMinMax_SF@V! VMin:u16*VMinMax_SF@V!
  VAMax:u16*VAMax_SF@VA! VArMaxQ1:i16*VArMax_SF@var! VArMaxQ2:i16*VArMax_SF@var! VArMaxQ3:i16*VArMax_SF@var!
  VArMaxQ4:i16*VArMax_SF@var! WGra:u16*WGra_SF@%WMax/s! PFMinQ1:i16*PFMin_SF@cos! PFMinQ2:i16*PFMin_SF@cos!
  PFMinQ3:i16*PFMin_SF@cos! PFMinQ4:i16*PFMin_SF@cos! VArAct:e16! ClcTotVA:e16! MaxRmpRte:u16*MaxRmpRte_SF@%WGra!
  ECPNomHz:u16*ECPNomHz_SF@Hz! ConnPh:e16! WMax_SF:sf VRef_SF:sf VRefOfs_SF:sf VMinMax_SF:sf VAMax_SF:sf
  VArMax_SF:sf WGra_SF:sf PFMin_SF:sf MaxRmpRte_SF:sf ECPNomHz_SF:sf
model 122=status
  PVConn:b16 StorConn:b16 ECPConn:b16 ActWh:a64@Wh ActVAh:a64@VAh ActVArhQ1:a64@varh ActVArhQ2:a64@varh
  ActVArhQ3:a64@varh ActVArhQ4:a64@varh VArAval:i16*VArAval_SF@var VArAval_SF:sf WAval:u16*WAval_SF@W WAval_SF:sf
  StSetLimMsk:b32 StActCtl:b32 TmSrc:s4 Tms:u32@s RtSt:b16 Ris:u16*Ris_SF@ohms Ris_SF:sf
model 123=controls
  Conn_WinTms:u16@s! Conn_RvrtTms:u16@s! Conn:e16! WMaxLimPct:u16*WMaxLimPct_SF@%WMax! WMaxLimPct_WinTms:u16@s!
  WMaxLimPct_RvrtTms:u16@s! WMaxLimPct_RmpTms:u16@s! WMaxLim_Ena:e16! OutPFSet:i16*OutPFSet_SF@cos!
  OutPFSet_WinTms:u16@s! OutPFSet_RvrtTms:u16@s! OutPFSet_RmpTms:u16@s! OutPFSet_Ena:e16!
  VArWMaxPct:i16*VArPct_SF@%WMax! VArMaxPct:i16*VArPct_SF@%VArMax! VArAvalPct:i16*VArPct_SF@%VArAval!
  VArPct_WinTms:u16@s! VArPct_RvrtTms:u16@s! VArPct_RmpTms:u16@s! VArPct_Mod:e16! VArPct_Ena:e16! WMaxLimPct_SF:sf
  OutPFSet_SF:sf VArPct_SF:sf
model 124=storage_basic
  WChaMax:u16*WChaMax_SF@W! WChaGra:u16*WChaDisChaGra_SF@%WChaMax/s! WDisChaGra:u16*WChaDisChaGra_SF@%WChaMax/s!
  StorCtl_Mod:b16! VAChaMax:u16*VAChaMax_SF@VA! MinRsvPct:u16*MinRsvPct_SF@%WChaMax!
  ChaState:u16*ChaState_SF@%AhrRtg StorAval:u16*StorAval_SF@Ah InBatV:u16*InBatV_SF@V ChaSt:e16
  OutWRte:i16*InOutWRte_SF@%WDisChaMax! InWRte:i16*InOutWRte_SF@%WChaMax! InOutWRte_WinTms:u16@s!
  InOutWRte_RvrtTms:u16@s! InOutWRte_RmpTms:u16@s! ChaGriSet:e16! WChaMax_SF:sf WChaDisChaGra_SF:sf VAChaMax_SF:sf
  MinRsvPct_SF:sf ChaState_SF:sf StorAval_SF:sf InBatV_SF:sf InOutWRte_SF:sf
model 160=mppt
  DCA_SF:sf DCV_SF:sf DCW_SF:sf DCWH_SF:sf Evt:b32 N:cnt TmsPer:u16 [module/N ID:u16 IDStr:s8 DCA:u16*DCA_SF@A
  DCV:u16*DCV_SF@V DCW:u16*DCW_SF@W DCWH:a32*DCWH_SF@Wh Tms:u32@s Tmp:i16@C DCSt:e16 DCEvt:b32 ]
model 201=ac_meter_an_or_ab
  A:i16*A_SF@A AphA:i16*A_SF@A AphB:i16*A_SF@A AphC:i16*A_SF@A A_SF:sf PhV:i16*V_SF@V PhVphA:i16*V_SF@V
  PhVphB:i16*V_SF@V PhVphC:i16*V_SF@V PPV:i16*V_SF@V PPVphAB:i16*V_SF@V PPVphBC:i16*V_SF@V PPVphCA:i16*V_SF@V
  V_SF:sf Hz:i16*Hz_SF@Hz Hz_SF:sf W:i16*W_SF@W WphA:i16*W_SF@W WphB:i16*W_SF@W WphC:i16*W_SF@W W_SF:sf
  VA:i16*VA_SF@VA VAphA:i16*VA_SF@VA VAphB:i16*VA_SF@VA VAphC:i16*VA_SF@VA VA_SF:sf VAR:i16*VAR_SF@var
  VARphA:i16*VAR_SF@var VARphB:i16*VAR_SF@var VARphC:i16*VAR_SF@var VAR_SF:sf PF:i16*PF_SF@% PFphA:i16*PF_SF@%
  PFphB:i16*PF_SF@% PFphC:i16*PF_SF@% PF_SF:sf TotWhExp:a32*TotWh_SF@Wh TotWhExpPhA:a32*TotWh_SF@Wh
  TotWhExpPhB:a32*TotWh_SF@Wh TotWhExpPhC:a32*TotWh_SF@Wh TotWhImp:a32*TotWh_SF@Wh TotWhImpPhA:a32*TotWh_SF@Wh
  TotWhImpPhB:a32*TotWh_SF@Wh TotWhImpPhC:a32*TotWh_SF@Wh TotWh_SF:sf TotVAhExp:a32*TotVAh_SF@VAh
  TotVAhExpPhA:a32*TotVAh_SF@VAh TotVAhExpPhB:a32*TotVAh_SF@VAh TotVAhExpPhC:a32*TotVAh_SF@VAh
  TotVAhImp:a32*TotVAh_SF@VAh TotVAhImpPhA:a32*TotVAh_SF@VAh TotVAhImpPhB:a32*TotVAh_SF@VAh
  TotVAhImpPhC:a32*TotVAh_SF@VAh TotVAh_SF:sf TotVArhImpQ1:a32*TotVArh_SF@varh TotVArhImpQ1PhA:a32*TotVArh_SF@varh
  TotVArhImpQ1PhB:a32*TotVArh_SF@varh TotVArhImpQ1PhC:a32*TotVArh_SF@varh TotVArhImpQ2:a32*TotVArh_SF@varh
  TotVArhImpQ2PhA:a32*TotVArh_SF@varh TotVArhImpQ2PhB:a32*TotVArh_SF@varh TotVArhImpQ2PhC:a32*TotVArh_SF@varh
  TotVArhExpQ3:a32*TotVArh_SF@varh TotVArhExpQ3PhA:a32*TotVArh_SF@varh TotVArhExpQ3PhB:a32*TotVArh_SF@varh
  TotVArhExpQ3PhC:a32*TotVArh_SF@varh TotVArhExpQ4:a32*TotVArh_SF@varh TotVArhExpQ4PhA:a32*TotVArh_SF@varh
  TotVArhExpQ4PhB:a32*TotVArh_SF@varh TotVArhExpQ4PhC:a32*TotVArh_SF@varh TotVArh_SF:sf Evt:b32
model 202=ac_meter_abn 203=ac_meter_abcn 204=ac_meter_abc
  A:i16*A_SF@A AphA:i16*A_SF@A AphB:i16*A_SF@A AphC:i16*A_SF@A A_SF:sf PhV:i16*V_SF@V PhVphA:i16*V_SF@V
  PhVphB:i16*V_SF@V PhVphC:i16*V_SF@V PPV:i16*V_SF@V PhVphAB:i16*V_SF@V PhVphBC:i16*V_SF@V PhVphCA:i16*V_SF@V
  V_SF:sf Hz:i16*Hz_SF@Hz Hz_SF:sf W:i16*W_SF@W WphA:i16*W_SF@W WphB:i16*W_SF@W WphC:i16*W_SF@W W_SF:sf
  VA:i16*VA_SF@VA VAphA:i16*VA_SF@VA VAphB:i16*VA_SF@VA VAphC:i16*VA_SF@VA VA_SF:sf VAR:i16*VAR_SF@var
  VARphA:i16*VAR_SF@var VARphB:i16*VAR_SF@var VARphC:i16*VAR_SF@var VAR_SF:sf PF:i16*PF_SF@% PFphA:i16*PF_SF@%
  PFphB:i16*PF_SF@% PFphC:i16*PF_SF@% PF_SF:sf TotWhExp:a32*TotWh_SF@Wh TotWhExpPhA:a32*TotWh_SF@Wh
  TotWhExpPhB:a32*TotWh_SF@Wh TotWhExpPhC:a32*TotWh_SF@Wh TotWhImp:a32*TotWh_SF@Wh TotWhImpPhA:a32*TotWh_SF@Wh
  TotWhImpPhB:a32*TotWh_SF@Wh TotWhImpPhC:a32*TotWh_SF@Wh TotWh_SF:sf TotVAhExp:a32*TotVAh_SF@VAh
  TotVAhExpPhA:a32*TotVAh_SF@VAh TotVAhExpPhB:a32*TotVAh_SF@VAh TotVAhExpPhC:a32*TotVAh_SF@VAh
  TotVAhImp:a32*TotVAh_SF@VAh TotVAhImpPhA:a32*TotVAh_SF@VAh TotVAhImpPhB:a32*TotVAh_SF@VAh
  TotVAhImpPhC:a32*TotVAh_SF@VAh TotVAh_SF:sf TotVArhImpQ1:a32*TotVArh_SF@varh TotVArhImpQ1PhA:a32*TotVArh_SF@varh
  TotVArhImpQ1PhB:a32*TotVArh_SF@varh TotVArhImpQ1PhC:a32*TotVArh_SF@varh TotVArhImpQ2:a32*TotVArh_SF@varh
  TotVArhImpQ2PhA:a32*TotVArh_SF@varh TotVArhImpQ2PhB:a32*TotVArh_SF@varh TotVArhImpQ2PhC:a32*TotVArh_SF@varh
  TotVArhExpQ3:a32*TotVArh_SF@varh TotVArhExpQ3PhA:a32*TotVArh_SF@varh TotVArhExpQ3PhB:a32*TotVArh_SF@varh
  TotVArhExpQ3PhC:a32*TotVArh_SF@varh TotVArhExpQ4:a32*TotVArh_SF@varh TotVArhExpQ4PhA:a32*TotVArh_SF@varh
  TotVArhExpQ4PhB:a32*TotVArh_SF@varh TotVArhExpQ4PhC:a32*TotVArh_SF@varh TotVArh_SF:sf Evt:b32
model 701=DERMeasureAC
  ACType:e16 St:e16 InvSt:e16 ConnSt:e16 Alrm:b32 DERMode:b32 W:i16*W_SF@W VA:i16*VA_SF@VA Var:i16*Var_SF@var
  PF:i16*PF_SF A:i16*A_SF@A LLV:u16*V_SF@V LNV:u16*V_SF@V Hz:u32*Hz_SF@Hz TotWhInj:u64*TotWh_SF@Wh
  TotWhAbs:u64*TotWh_SF@Wh TotVarhInj:u64*TotVarh_SF@varh TotVarhAbs:u64*TotVarh_SF@varh TmpAmb:i16*Tmp_SF@C
  TmpCab:i16*Tmp_SF@C TmpSnk:i16*Tmp_SF@C TmpTrns:i16*Tmp_SF@C TmpSw:i16*Tmp_SF@C TmpOt:i16*Tmp_SF@C WL1:i16*W_SF@W
  VAL1:i16*VA_SF@VA VarL1:i16*Var_SF@var PFL1:i16*PF_SF AL1:i16*A_SF@A VL1L2:u16*V_SF@V VL1:u16*V_SF@V
  TotWhInjL1:u64*TotWh_SF@Wh TotWhAbsL1:u64*TotWh_SF@Wh TotVarhInjL1:u64*TotVarh_SF@varh
  TotVarhAbsL1:u64*TotVarh_SF@varh WL2:i16*W_SF@W VAL2:i16*VA_SF@VA VarL2:i16*Var_SF@var PFL2:i16*PF_SF
  AL2:i16*A_SF@A VL2L3:u16*V_SF@V VL2:u16*V_SF@V TotWhInjL2:u64*TotWh_SF@Wh TotWhAbsL2:u64*TotWh_SF@Wh
  TotVarhInjL2:u64*TotVarh_SF@varh TotVarhAbsL2:u64*TotVarh_SF@varh WL3:i16*W_SF@W VAL3:i16*VA_SF@VA
  VarL3:i16*Var_SF@var PFL3:i16*PF_SF AL3:i16*A_SF@A VL3L1:u16*V_SF@V VL3:u16*V_SF@V TotWhInjL3:u64*TotWh_SF@Wh
  TotWhAbsL3:u64*TotWh_SF@Wh TotVarhInjL3:u64*TotVarh_SF@varh TotVarhAbsL3:u64*TotVarh_SF@varh ThrotPct:u16@%
  ThrotSrc:b32 A_SF:sf V_SF:sf Hz_SF:sf W_SF:sf PF_SF:sf VA_SF:sf Var_SF:sf TotWh_SF:sf TotVarh_SF:sf Tmp_SF:sf
  MnAlrmInfo:s32
model 702=DERCapacity
  WMaxRtg:u16*W_SF@W WOvrExtRtg:u16*W_SF@W WOvrExtRtgPF:u16*PF_SF WUndExtRtg:u16*W_SF@W WUndExtRtgPF:u16*PF_SF
  VAMaxRtg:u16*VA_SF@VA VarMaxInjRtg:u16*Var_SF@var VarMaxAbsRtg:u16*Var_SF@var WChaRteMaxRtg:u16*W_SF@W
  WDisChaRteMaxRtg:u16*W_SF@W VAChaRteMaxRtg:u16*VA_SF@VA VADisChaRteMaxRtg:u16*VA_SF@VA VNomRtg:u16*V_SF@V
  VMaxRtg:u16*V_SF@V VMinRtg:u16*V_SF@V AMaxRtg:u16*A_SF@A PFOvrExtRtg:u16*PF_SF PFUndExtRtg:u16*PF_SF
  ReactSusceptRtg:u16*S_SF@S NorOpCatRtg:e16 AbnOpCatRtg:e16 CtrlModes:b32 IntIslandCatRtg:b16 WMax:u16*W_SF@W!
  WMaxOvrExt:u16*W_SF@W! WOvrExtPF:u16*PF_SF! WMaxUndExt:u16*W_SF@W! WUndExtPF:u16*PF_SF! VAMax:u16*VA_SF@VA!
  VarMaxInj:u16*Var_SF@var! VarMaxAbs:u16*Var_SF@var! WChaRteMax:u16*W_SF@W! WDisChaRteMax:u16*W_SF@W!
  VAChaRteMax:u16*VA_SF@VA! VADisChaRteMax:u16*VA_SF@VA! VNom:u16*V_SF@V! VMax:u16*V_SF@V! VMin:u16*V_SF@V!
  AMax:u16*A_SF@A! PFOvrExt:u16*PF_SF! PFUndExt:u16*PF_SF! IntIslandCat:b16! W_SF:sf PF_SF:sf VA_SF:sf Var_SF:sf
  V_SF:sf A_SF:sf S_SF:sf
model 703=DEREnterService
  ES:e16! ESVHi:u16*V_SF@%! ESVLo:u16*V_SF@%! ESHzHi:u32*Hz_SF@Hz! ESHzLo:u32*Hz_SF@Hz! ESDlyTms:u32@s!
  ESRndTms:u32@s! ESRmpTms:u32@s! ESDlyRemTms:u32@s V_SF:sf Hz_SF:sf
model 704=DERCtlAC
  PFWInjEna:e16! PFWInjEnaRvrt:e16! PFWInjRvrtTms:u32@s! PFWInjRvrtRem:u32@s PFWAbsEna:e16! PFWAbsEnaRvrt:e16!
  PFWAbsRvrtTms:u32@s! PFWAbsRvrtRem:u32@s WMaxLimPctEna:e16! WMaxLimPct:u16*WMaxLimPct_SF@%!
  WMaxLimPctRvrt:u16*WMaxLimPct_SF@%! WMaxLimPctEnaRvrt:e16! WMaxLimPctRvrtTms:u32@s! WMaxLimPctRvrtRem:u32@s
  WSetEna:e16! WSetMod:e16! WSet:i32*WSet_SF@W! WSetRvrt:i32*WSet_SF@W! WSetPct:i16*WSetPct_SF@%!
  WSetPctRvrt:i16*WSetPct_SF@%! WSetEnaRvrt:e16! WSetRvrtTms:u32@s! WSetRvrtRem:u32@s VarSetEna:e16! VarSetMod:e16!
  VarSetPri:e16! VarSet:i32*VarSet_SF@var! VarSetRvrt:i32*VarSet_SF@var! VarSetPct:i16*VarSetPct_SF@%!
  VarSetPctRvrt:i16*VarSetPct_SF@%! VarSetEnaRvrt:e16! VarSetRvrtTms:u32@s! VarSetRvrtRem:u32@s WRmp:u16@%Max/s!
  WRmpRef:e16! VarRmp:u16@%Max/s! AntiIslEna:e16! PF_SF:sf WMaxLimPct_SF:sf WSet_SF:sf WSetPct_SF:sf VarSet_SF:sf
  VarSetPct_SF:sf [PFWInj PF:u16*PF_SF! Ext:e16! ] [PFWInjRvrt PF:u16*PF_SF! Ext:e16! ] [PFWAbs PF:u16*PF_SF!
  Ext:e16! ] [PFWAbsRvrt PF:u16*PF_SF! Ext:e16! ]
model 713=DERStorageCapacity
  WHRtg:u16*WH_SF@Wh WHAvail:u16*WH_SF@Wh SoC:u16*Pct_SF@% SoH:u16*Pct_SF@% Sta:e16 WH_SF:sf Pct_SF:sf
model 714=DERMeasureDC
  PrtAlrms:b32 NPrt:u16 DCA:i16*DCA_SF@A DCW:i16*DCW_SF@W DCWhInj:u64*DCWH_SF@Wh DCWhAbs:u64*DCWH_SF@Wh DCA_SF:sf
  DCV_SF:sf DCW_SF:sf DCWH_SF:sf Tmp_SF:sf [Prt/NPrt PrtTyp:e16 ID:u16 IDStr:s8 DCA:i16*DCA_SF@A DCV:u16*DCV_SF@V
  DCW:i16*DCW_SF@W DCWhInj:u64*DCWH_SF@Wh DCWhAbs:u64*DCWH_SF@Wh Tmp:i16*Tmp_SF@C DCSta:e16 DCAlrm:b32 ]
model 715=DERCtl
  LocRemCtl:e16 DERHb:u32 ControllerHb:u32! AlarmReset:u16! OpCtl:e16!
model 802=battery
  AHRtg:u16*AHRtg_SF@Ah WHRtg:u16*WHRtg_SF@Wh WChaRteMax:u16*WChaDisChaMax_SF@W WDisChaRteMax:u16*WChaDisChaMax_SF@W
  DisChaRte:u16*DisChaRte_SF@%WHRtg SoCMax:u16*SoC_SF@%WHRtg SoCMin:u16*SoC_SF@%WHRtg SocRsvMax:u16*SoC_SF@%WHRtg!
  SoCRsvMin:u16*SoC_SF@%WHRtg! SoC:u16*SoC_SF@%WHRtg DoD:u16*DoD_SF@% SoH:u16*SoH_SF@% NCyc:u32 ChaSt:e16
  LocRemCtl:e16 Hb:u16 CtrlHb:u16! AlmRst:u16! Typ:e16 State:e16 StateVnd:e16 WarrDt:u32 Evt1:b32 Evt2:b32
  EvtVnd1:b32 EvtVnd2:b32 V:u16*V_SF@V VMax:u16*V_SF@V VMin:u16*V_SF@V CellVMax:u16*CellV_SF@V CellVMaxStr:u16
  CellVMaxMod:u16 CellVMin:u16*CellV_SF@V CellVMinStr:u16 CellVMinMod:u16 CellVAvg:u16*CellV_SF@V A:i16*A_SF@A
  AChaMax:u16*AMax_SF@A ADisChaMax:u16*AMax_SF@A W:i16*W_SF@W ReqInvState:e16 ReqW:i16*W_SF@W SetOp:e16!
  SetInvState:e16! AHRtg_SF:sf WHRtg_SF:sf WChaDisChaMax_SF:sf DisChaRte_SF:sf SoC_SF:sf DoD_SF:sf SoH_SF:sf V_SF:sf
  CellV_SF:sf A_SF:sf AMax_SF:sf W_SF:sf
"""

SYMBOLS: dict[tuple[int, str], dict[int, str]] = {}
"""Names of the values of the enumerations that people look at, by (model, point); an unknown value is shown as its number."""

_INVERTER_STATES = "1 off,2 sleeping,3 starting,4 mppt,5 throttled,6 shutting down,7 fault,8 standby"
_CHARGE_STATES = "1 off,2 empty,3 discharging,4 charging,5 full,6 holding,7 testing"
_OFF_ON = "0 disabled,1 enabled"

_NAMES = {
    "101.St 102.St 103.St 111.St 112.St 113.St": _INVERTER_STATES,
    "120.DERTyp": "4 pv,82 pv with storage",
    "123.Conn": "0 disconnect,1 connect",
    "123.WMaxLim_Ena 123.OutPFSet_Ena 123.VArPct_Ena": _OFF_ON,
    "124.ChaSt 802.ChaSt": _CHARGE_STATES,
    "124.ChaGriSet": "0 pv,1 grid",
    "701.ACType": "0 single phase,1 split phase,2 three phase",
    "701.InvSt": "0 off,1 sleeping,2 starting,3 running,4 throttled,5 shutting down,6 fault,7 standby",
    "701.ConnSt": "0 disconnected,1 connected",
    "703.ES 704.WMaxLimPctEna 704.WMaxLimPctEnaRvrt 704.WSetEna 704.WSetEnaRvrt 704.VarSetEna 704.AntiIslEna": _OFF_ON,
    "704.WSetMod": "0 percent of maximum,1 watts",
    "713.Sta": "0 ok,1 warning,2 error",
    "714.PrtTyp": "0 pv,1 ess,2 ev,3 inj,4 abs,5 bidir,6 dc/dc",
    "715.LocRemCtl 802.LocRemCtl": "0 remote,1 local",
    "802.State": "1 disconnected,2 initializing,3 connected,4 standby,5 soc protection,6 suspending,99 fault",
}

for _keys, _values in _NAMES.items():
    for _key in _keys.split():
        _model, _, _point = _key.partition(".")
        SYMBOLS[int(_model), _point] = {int(v.split(" ", 1)[0]): v.split(" ", 1)[1] for v in _values.split(",")}

_INVERTER_ALARMS = """
ground fault,dc over voltage,ac disconnect,dc disconnect,grid disconnect,cabinet open,manual shutdown,over temperature,
over frequency,under frequency,ac over voltage,ac under voltage,blown string fuse,under temperature,memory loss,
hardware test failure,manufacturer alarm
"""
_BATTERY_ALARMS = """
communication error,over temperature,over temperature warning,under temperature,under temperature warning,
over charge current,over charge current warning,over discharge current,over discharge current warning,over voltage,
over voltage warning,under voltage,under voltage warning,under soc minimum,under soc minimum warning,over soc maximum,
over soc maximum warning,voltage imbalance,temperature imbalance,temperature imbalance warning,contactor error,fan error,
ground fault,open door,current imbalance,other alarm,other warning,reserved,configuration alarm,configuration warning
"""
_METER_ALARMS = ",,power failure,under voltage,low power factor,over current,over voltage,missing sensor"

ALARM_BITS: dict[str, list[str]] = {
    name: table.replace("\n", "").split(",")
    for name, table in (("inverter", _INVERTER_ALARMS), ("battery", _BATTERY_ALARMS), ("meter", _METER_ALARMS))
}
"""Names of the bits of Evt1 (101 to 113), Alrm (701), Evt1 (802) and Evt (201 to 204)."""
