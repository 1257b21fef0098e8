package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

//go:generate go test -run TestDocuments -update .

// Documents returns the two OpenAPI 3.1 documents as YAML, by file name, as they
// are committed beside this file. They need no running server.
func Documents() (map[string][]byte, error) {
	humaErrors()
	a := &API{Options: Options{Version: "1"}}
	docs := map[string][]byte{}
	for name, register := range map[string]func(*http.ServeMux) huma.API{
		"openapi.yaml": a.publicAPI, "admin-openapi.yaml": a.adminAPI,
	} {
		y, err := register(http.NewServeMux()).OpenAPI().YAML()
		if err != nil {
			return nil, err
		}
		docs[name] = y
	}
	return docs, nil
}
