import sys,time
from tests.bench.world import new_world
from tests.bench import workloads as W
from tests.bench.contenders import *
N=int(sys.argv[1])
if __name__=="__main__":
  with new_world(print) as w:
    t=time.time()
    (f,)=w.fill(W.snapshot(N)); print(f, time.time()-t)
    for round_ in range(int(sys.argv[2])):
      for c in (Ours("librdkafka"),Ours("kafka-python")):
        db=w.databases.create("t1")
        r=run(w,c,"empty",f,db); print(r)
        prepare_existing(w,f,db)
        r=run(w,c,"existing",f,db); print(r)
      db=w.databases.create("t1")
      print(limit(w,"empty",f,db,existing=False)); prepare_existing(w,f,db); print(limit(w,"existing",f,db,existing=True))
    for c in ("librdkafka","kafka-python"):
      print(reading(w,"read",f,c)); print(reading(w,"read",f,c,decode=True))
