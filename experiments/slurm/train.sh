#!/usr/bin/env bash
# One training over all GPUs of one or more nodes:  sbatch --nodes=2 experiments/slurm/train.sh method=fire2 data=prcc
# Every key after the script's name goes to the train verb. Start it in the folder that holds .venv/.
#SBATCH --job-name=ccreid
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
# Two minutes before its time is up the job asks to be started again; like a preempted one it then
# goes on after its last whole epoch. A job that is started again when it had ended does nothing.
#SBATCH --signal=USR1@120
#SBATCH --requeue
set -euo pipefail

# srun starts one process per GPU; Lightning reads its place from SLURM's variables.
# One folder for all processes and every start of the job, whose number stays the same; it must be
# on a file system that all nodes see. To go on in a new job: hydra.run.dir=<that folder>.
exec srun .venv/bin/python -m ccreid.train trainer=ddp \
  trainer.num_nodes="$SLURM_JOB_NUM_NODES" trainer.devices="$SLURM_NTASKS_PER_NODE" \
  hydra.run.dir="outputs/slurm-$SLURM_JOB_ID" resume=auto "$@"
