"""SPN: semantic pyramid network (Zhang, Wang, Ni, Yang, Pattern Recognition 2023), and SPL, its predecessor of 2021."""
