package spool
import ("testing";"time";"sync")
func TestZZOpen(t *testing.T){
 dir:=t.TempDir(); s:=started(t,Options{Dir:dir,memTable:64<<20})
 var wg sync.WaitGroup; wg.Add(300000); b:=time.Now()
 for range 300000 { s.Put(benchMessage(s),func(error){wg.Done()}) }
 wg.Wait(); t.Log("put 300k", time.Since(b), s.Stats().Commits, s.Stats().CommitMax); b=time.Now()
 shut(t,s); t.Log("close",time.Since(b)); b=time.Now()
 s=open(t,Options{Dir:dir,memTable:64<<20}); t.Log("open",time.Since(b), s.Stats().LiveTotal)
}
