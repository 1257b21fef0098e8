package app

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/machine"
	"github.com/pipit-im/pipit/pkg/metrics"
)

// watchSamples adds a sample to the ring at the end of each step of the pace.
func (a *App) watchSamples(ctx context.Context) {
	for {
		now := time.Now()
		end := now.Truncate(metrics.SampleStep).Add(metrics.SampleStep)
		select {
		case <-ctx.Done():
			return
		case <-time.After(end.Sub(now)):
			a.ring.Add(a.sample(end))
		}
	}
}

// sample is the step that ended at end.
func (a *App) sample(end time.Time) metrics.Sample {
	s := metrics.Sample{At: end.UnixMilli(), People: a.hub.Stats().People, Bytes: rss(), Deliver: time.Duration(a.slowest.Swap(0))}
	s.Stored, s.StoreP50, s.StoreP99 = a.pace.lastStep(end)
	s.Celsius, _ = machine.Machine{}.Temperature()
	return s
}

// history is what the console's charts show.
func (a *App) history(after int64) apiclient.BoxHistory {
	out := apiclient.BoxHistory{StepMS: metrics.SampleStep.Milliseconds(), Samples: []apiclient.BoxSample{}}
	for _, s := range a.ring.After(after) {
		out.Samples = append(out.Samples, apiclient.BoxSample{At: s.At, People: s.People, Stored: s.Stored, StoreP50US: s.StoreP50.Microseconds(),
			StoreP99US: s.StoreP99.Microseconds(), DeliverUS: s.Deliver.Microseconds(), RSSBytes: s.Bytes, Celsius: s.Celsius})
	}
	return out
}

// machine is what the machine says of itself, for the console.
func (a *App) machine() apiclient.MachineInfo {
	m, dir := machine.Machine{}, a.config().DataDir
	host, err := os.Hostname()
	if err != nil {
		host = "pipit"
	}
	out := apiclient.MachineInfo{Host: host, Model: m.Model()}
	if up, ok := m.Uptime(); ok {
		out.UptimeS = int64(up.Seconds())
	}
	out.MemoryBytes, out.MemoryAvailableBytes, _ = m.Memory()
	out.Load, _ = m.Load()
	out.Celsius, _ = m.Temperature()
	if t, ok := m.Throttling(); ok {
		out.Throttling = &apiclient.Throttling{UnderVoltage: t.UnderVoltage, Slowed: t.Capped || t.Throttled || t.TooWarm,
			UnderVoltageBefore: t.UnderVoltageBefore, SlowedBefore: t.ThrottledBefore}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil {
		out.DiskBytes = int64(fs.Blocks) * int64(fs.Bsize)
		out.DiskFreeBytes = int64(fs.Bavail) * int64(fs.Bsize)
	}
	if c, ok := m.Card(dir); ok {
		out.Card = &apiclient.CardInfo{Device: c.Device, Name: c.Name, WrittenBytes: c.WrittenBytes, LifeUsedPercent: c.LifeUsedPercent, Reserve: c.Reserve}
	}
	return out
}
