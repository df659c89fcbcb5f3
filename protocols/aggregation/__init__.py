"""The sealed, padded Paillier round: members report, a leader multiplies, the network operator decrypts the sum and nothing else."""
