// What a Go programmer writes for a pool of fixed size: a buffered channel.
// Run by bench/cases/golang.py; by hand: go test -bench . -cpu 1,2
package bench

import (
	"syscall"
	"testing"
)

const size = 10

type thing struct{ _ [96]byte }

func filled() chan *thing {
	pool := make(chan *thing, size)
	for i := 0; i < size; i++ {
		pool <- new(thing)
	}
	return pool
}

// measured adds to the wall time of a run its CPU time, and how often the scheduler of the machine
// took one of its threads off a CPU: a run with any such switch says nothing about the channel.
func measured(b *testing.B, run func()) {
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ResetTimer()
	run()
	b.StopTimer()
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(after.Nivcsw-before.Nivcsw), "switches")
}

// One goroutine: get and put.
func BenchmarkAlone(b *testing.B) {
	pool := filled()
	measured(b, func() {
		for i := 0; i < b.N; i++ {
			r := <-pool
			pool <- r
		}
	})
}

// As many goroutines as -cpu says, all on the same pool; the time is wall time over all pairs.
func BenchmarkParallel(b *testing.B) {
	pool := filled()
	measured(b, func() {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r := <-pool
				pool <- r
			}
		})
	})
}
