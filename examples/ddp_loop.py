"""The plain loop in several processes. `torchrun --nproc-per-node 2 examples/ddp_loop.py DATASET [EPOCHS]`."""

import sys

import torch
from plain_loop import AlongWeights, accuracy
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import inr_factory as inr


def main(path: str, epochs: int) -> None:
    distributed.init_process_group("gloo")  # "nccl", and a device for each rank, on GPUs
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(0)
    train, test = inr.open(path, split="train"), inr.open(path, split="test", views=1)
    # Each rank gets its own batches of 32. They are disjoint and equally many; one seed shuffles them for all ranks.
    loader = inr.INRLoader(train, batch_size=32, transform=inr.Canonicalize(), rank=rank, world_size=world_size, seed=0)
    model = DistributedDataParallel(AlongWeights(train.spec, train.num_classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        model.train()
        seen = torch.zeros(())
        for inrs, targets in loader:
            loss = nn.functional.cross_entropy(model(inrs.flatten()), targets)
            optimizer.zero_grad()
            loss.backward()  # DistributedDataParallel averages the gradients here
            optimizer.step()
            seen += len(inrs)
        distributed.all_reduce(seen)
        if rank == 0:
            correct = accuracy(model.module, test)
            print(f"epoch {epoch + 1}: {seen:.0f} INRs by {world_size} ranks, test accuracy {correct:.1%}", flush=True)
    distributed.barrier()  # no rank leaves while another works
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "inrs/digits", int(sys.argv[2]) if len(sys.argv) > 2 else 30)
