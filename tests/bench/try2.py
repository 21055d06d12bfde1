import sys,time
from pathlib import Path
from tests.bench.world import new_world
from tests.bench import workloads as W
from tests.bench.contenders import *
from tests.bench.profile import Profiled
if __name__=="__main__":
  N=int(sys.argv[1])
  with new_world(print) as w:
    (f,)=w.fill(W.snapshot(N)); print(f)
    db=w.databases.create("t1")
    r=run(w,Ours("librdkafka"),"empty",f,db); print(r)
    for sample in (True,False):
      db=w.databases.create("t1")
      r=run(w,Profiled("librdkafka",sample=sample,report=Path(f"/tmp/prof_{sample}.txt")),"empty",f,db); print(r)
