#!/bin/bash
# A study on a Slurm cluster: each task of the array is a worker that takes runs until none is left.
#
#   sbatch examples/cluster/slurm.sh digits        # after `stn-bench run digits` was begun, or beside it
#
#SBATCH --job-name=stn-bench
#SBATCH --array=1-16
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --requeue                  # a task that is preempted begins again, and takes what waits
#SBATCH --open-mode=append
#SBATCH --output=stn-bench-%A-%a.log
#SBATCH --signal=TERM@600          # ten minutes before the end: the epoch ends, its checkpoint is kept, the run given back
set -euo pipefail

study=${1:?the name of the study}
# A file that only you can read, with STN_BENCH_OPTUNA_URL, MLFLOW_TRACKING_URI and, where MLflow asks for a login,
# MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD: nothing of it shows in `squeue` or `ps`.
source "${STN_BENCH_STORES:-$HOME/.config/stn-bench/stores.sh}"
export STN_BENCH_OPTUNA_URL MLFLOW_TRACKING_URI

# Checkpoints lie under this root: in a folder that all nodes see, another node goes on at the epoch.
cd "${STN_BENCH_ROOT:-$SLURM_SUBMIT_DIR}"
exec srun stn-bench worker "$study" --wait 3600 --workers 1 --threads "${SLURM_CPUS_PER_TASK:-1}"
