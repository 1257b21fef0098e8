package app

import "net/http"

// signInFirst puts the sign-in pages and the OpenID provider of each tenant before
// everything else that is served.
func (a *App) signInFirst(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	a.op.Routes(mux)
	mux.Handle("/", next)
	return mux
}
