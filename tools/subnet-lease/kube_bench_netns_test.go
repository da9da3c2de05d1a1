//go:build netns

package main

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// crowd makes Node objects of a real node's size: what a kubelet reports of its images is most of it.
func (c *cluster) crowd(n int) {
	var images []string
	for i := range 40 {
		images = append(images, fmt.Sprintf(`{"names":["registry.example.org/team-%02d/service-%02d@sha256:%064d","registry.example.org/team-%02d/service-%02d:v1.%d.0"],"sizeBytes":%d}`,
			i, i, i, i, i, i, 12345678+i))
	}
	var conditions []string
	for _, kind := range []string{"MemoryPressure", "DiskPressure", "PIDPressure", "Ready"} {
		conditions = append(conditions, fmt.Sprintf(`{"type":%q,"status":"False","reason":"KubeletHasSufficientMemory","message":"kubelet has sufficient memory available"}`, kind))
	}
	status := fmt.Sprintf(`{"images":[%s],"conditions":[%s],"capacity":{"cpu":"8","memory":"32Gi","pods":"110"},"nodeInfo":{"kubeletVersion":"v1.34.4","osImage":"Debian"}}`,
		strings.Join(images, ","), strings.Join(conditions, ","))
	numbers := make(chan int)
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			for i := range numbers {
				const p = "flannel.alpha.coreos.com/"
				c.Do("POST", "/api/v1/nodes", fmt.Sprintf(`{"metadata":{"name":"node-%05[1]d","labels":{"kubernetes.io/hostname":"node-%05[1]d","kubernetes.io/os":"linux"},"annotations":{
"%[2]skube-subnet-manager":"true","%[2]sbackend-type":"vxlan","%[2]sbackend-data":"{\"VNI\":1,\"VtepMAC\":\"62:00:00:00:%02[3]x:%02[4]x\"}","%[2]spublic-ip":"192.168.%[5]d.%[6]d"}},
"spec":{"podCIDR":"10.%[7]d.%[8]d.0/24","podCIDRs":["10.%[7]d.%[8]d.0/24"]},"status":%[9]s}`,
					i, p, i/256, i%256, 64+i/250, 1+i%250, 1+i/256, i%256, status))
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	done.Wait()
}

// everyone is a network that holds the crowd.
const everyone = `{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}`

// BenchmarkKubeStart: from the start of watch to peers/.synced, with so many other nodes.
func BenchmarkKubeStart(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			c := newCluster(b)
			c.crowd(n)
			c.object("me", spec("10.0.0.0/24"), nil)
			var cpu time.Duration
			var rss, settled int64
			for b.Loop() {
				b.StopTimer()
				me := c.member("me", 1)
				write(b, me.netConf, everyone)
				me.link("vxlan", fmt.Sprintf(vtep, 1))
				b.StartTimer()
				log, cmd := me.watch()
				b.StopTimer()
				<-time.After(2 * time.Second)
				settled = max(settled, residentKiB(b, cmd.Process.Pid, "VmRSS"))
				rss = max(rss, residentKiB(b, cmd.Process.Pid, "VmHWM"))
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
			b.ReportMetric(float64(rss)/1024, "MiB-peak")
			b.ReportMetric(float64(settled)/1024, "MiB-after-2s")
		})
	}
}

// residentKiB is a figure of /proc/PID/status.
func residentKiB(t testing.TB, pid int, key string) (kib int64) {
	t.Helper()
	for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/status", pid))) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			fmt.Sscan(rest, &kib)
		}
	}
	return kib
}
