import torch

torch.set_num_threads(1)  # the tests' tensors are tiny: a second thread costs more than it brings
