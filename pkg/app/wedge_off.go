//go:build !pipitwedge

package app

import "net/http"

// plant adds nothing: only the build that tests/twin makes can be wedged on purpose
// (wedge.go).
func (a *App) plant(admin http.Handler) http.Handler { return admin }
