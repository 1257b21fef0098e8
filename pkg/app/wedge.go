//go:build pipitwedge

package app

import (
	"net/http"
	"sync"

	"github.com/pipit-im/pipit/pkg/bus"
)

// plant adds to the admin socket what wedges the server on purpose, so that tests/twin
// sees systemd's watchdog do its work. No build but that test's has it.
//
//	POST /wedge/spin      a loop that computes for ever
//	POST /wedge/deadlock  a loop and another goroutine that wait for each other's lock
//	POST /wedge/commit    the commit goroutine, held by whoever hears of its next commit
func (a *App) plant(admin http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", admin)
	mux.HandleFunc("POST /wedge/spin", func(http.ResponseWriter, *http.Request) {
		a.loops.Loop(0).Post(func() {
			for n := 0; n >= 0; n = (n + 1) % 1000 { // a plain `for {}` would be taken for a mistake
			}
		})
	})
	mux.HandleFunc("POST /wedge/deadlock", func(http.ResponseWriter, *http.Request) {
		var one, two sync.Mutex
		held := make(chan struct{})
		two.Lock()
		go func() { // it holds two and wants one
			<-held
			one.Lock()
			two.Unlock()
		}()
		a.loops.Loop(0).Post(func() { // it holds one and wants two
			one.Lock()
			close(held)
			two.Lock()
		})
	})
	mux.HandleFunc("POST /wedge/commit", func(http.ResponseWriter, *http.Request) {
		var never sync.Mutex
		never.Lock()
		a.bus.Subscribe(func([]bus.Event) { never.Lock() })
	})
	return mux
}
