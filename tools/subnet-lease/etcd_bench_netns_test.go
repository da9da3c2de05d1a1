//go:build netns

package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/etcdtest"
)

// crowd puts n nodes of flannel's into etcd, from 10.0.0.0/24 on.
func (s *etcdSite) crowd(n int) {
	s.t.Helper()
	lease := s.Grant(86400)
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	for some := range slices.Chunk(numbers, 100) {
		var ops []string
		for _, i := range some {
			ops = append(ops, fmt.Sprintf(`{"requestPut":{"key":%q,"value":%q,"lease":"%d"}}`, etcdtest.Bytes(prefix+"subnets/"+crowdKey(i)), etcdtest.Bytes(crowdValue(i, 0)), lease))
		}
		s.Do("kv/txn", `{"success":[`+strings.Join(ops, ",")+`]}`, nil)
	}
}

func crowdKey(i int) string { return fmt.Sprintf("10.%d.%d.0-24", i/256, i%256) }

func crowdValue(i, turn int) string {
	return fmt.Sprintf(`{"PublicIP":"192.168.%d.%d","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"62:00:00:%02x:%02x:%02x"}}`, 64+i/250, 1+i%250, turn%256, i/256, i%256)
}

// BenchmarkEtcdStart: from the start of watch to peers/.synced, with so many other nodes: one listing and one watch.
func BenchmarkEtcdStart(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			s := newEtcdSite(b, everyone)
			s.crowd(n)
			var cpu time.Duration
			var rss, settled int64
			requests := 0
			for b.Loop() {
				b.StopTimer()
				me := s.member("me", 1)
				me.link("vxlan", fmt.Sprintf(vtep, 1))
				before := s.Requests()
				b.StartTimer()
				log, cmd := me.watch()
				b.StopTimer()
				<-time.After(2 * time.Second)
				settled = max(settled, residentKiB(b, cmd.Process.Pid, "VmRSS"))
				rss = max(rss, residentKiB(b, cmd.Process.Pid, "VmHWM"))
				for method, n := range s.Requests() {
					requests += n - before[method]
				}
				cmd.Process.Signal(syscall.SIGTERM)
				cmd.Wait()
				cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				if strings.Contains(log.String(), "ERROR") {
					b.Fatal(log.String())
				}
				try("ip", "link", "del", "u1")
				b.StartTimer()
			}
			b.ReportMetric(cpu.Seconds()/float64(b.N), "CPU-s/op")
			b.ReportMetric(float64(requests)/float64(b.N), "requests/op")
			b.ReportMetric(float64(rss)/1024, "MiB-peak")
			b.ReportMetric(float64(settled)/1024, "MiB-after-2s")
		})
	}
}

// BenchmarkEtcdJoin is one changed key, from the request to etcd until the peer's file is new.
func BenchmarkEtcdJoin(b *testing.B) {
	for _, n := range []int{100, 5000} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			s := newEtcdSite(b, everyone)
			s.crowd(n)
			me := s.member("me", 1)
			_, cmd := me.watch()
			before := cmd.Process.Pid
			var took []time.Duration
			used := cpuTicks(b, before)
			for i := 0; b.Loop(); i++ {
				value := crowdValue(7, i+1)
				mac := value[strings.Index(value, "62:"):][:17]
				start := time.Now()
				s.Put(prefix+"subnets/"+crowdKey(7), value, 0)
				for !strings.Contains(read(b, me.run.Peer("192.168.64.8")), mac) {
					if time.Since(start) > 10*time.Second {
						b.Fatal("not within 10 s")
					}
				}
				took = append(took, time.Since(start))
			}
			used = cpuTicks(b, before) - used
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(used*10000)/float64(len(took)), "CPU-µs/op")
		})
	}
}

// cpuTicks is the processor time of a process, in hundredths of a second.
func cpuTicks(b *testing.B, pid int) (ticks int64) {
	b.Helper()
	stat := read(b, fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	var user, system int64
	fmt.Sscan(fields[11], &user)
	fmt.Sscan(fields[12], &system)
	return user + system
}
