package api

import (
	"encoding/json"
	"net/http"
)

// landingPage says in both languages what this address is. The colours are the
// design's tokens.
const landingPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Pipit</title>
<style>
:root{color-scheme:light dark;--paper:#f5f3ef;--ink:#1f2022;--quiet:#66625b;--teal:#1d6577}
@media(prefers-color-scheme:dark){:root{--paper:#151617;--ink:#ebe9e4;--quiet:#a5a199;--teal:#72bccb}}
body{margin:0;min-height:100vh;display:grid;place-content:center;background:var(--paper);color:var(--ink);font:16px/1.6 system-ui,sans-serif;padding:24px}
main{max-width:34rem}h1{color:var(--teal);margin:0 0 .5rem;font-size:1.75rem}p{margin:.25rem 0}.q{color:var(--quiet)}
</style></head><body><main>
<h1>Pipit</h1>
<p>This messenger is running. Connect with a Pipit client to this address.</p>
<p lang="zh-CN">消息服务正在运行。请用 Pipit 客户端连接本地址。</p>
<p class="q">Developers: WebSocket at <code>/v1/ws</code>, REST described in <code>/v1/openapi.yaml</code>.</p>
</main></body></html>
`

// writeJSON writes v as the whole answer.
func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	// The status is out; a peer that went away is nobody's fault.
	_ = json.NewEncoder(w).Encode(v)
}
