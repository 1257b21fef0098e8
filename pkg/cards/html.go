package cards

import (
	"fmt"
	"html/template"
	"io"
	"strings"
)

var page = template.Must(template.New("cards").Parse(`<!DOCTYPE html>
<html lang="{{.Lang}}"><head><meta charset="utf-8"><title>{{.W.Title}} · {{.Organisation}}</title>
<style>
@page { size: A4; margin: 10mm; }
* { box-sizing: border-box; }
body { margin: 0; font: 10pt/1.35 system-ui, "Noto Sans", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "WenQuanYi Micro Hei", sans-serif; color: #111; background: #fff; }
main { display: grid; grid-template-columns: 1fr 1fr; }
article { height: 55mm; padding: 4mm; border: 0.2mm dashed #999; display: grid; grid-template-columns: 1fr 34mm; column-gap: 3mm; break-inside: avoid; overflow: hidden; }
.org { font-size: 8pt; color: #555; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
h2 { margin: 0 0 1mm; font-size: 14pt; line-height: 1.2; overflow-wrap: anywhere; max-height: 2.4em; overflow: hidden; }
dl { margin: 0; }
dt { color: #555; font-size: 7pt; line-height: 1.2; margin-top: 0.8mm; } dd { margin: 0; line-height: 1.25; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.mono { font-family: ui-monospace, "DejaVu Sans Mono", Consolas, monospace; }
svg { display: block; width: 34mm; height: 34mm; margin-top: -2mm; }
p { margin: 0; font-size: 7pt; line-height: 1.2; color: #555; }
</style></head><body><main>
{{range .Items}}<article><div style="min-width: 0"><div class="org">{{$.Organisation}}</div><h2>{{.Name}}</h2><dl>
{{if .Class}}<dt>{{$.W.Class}}</dt><dd>{{.Class}}</dd>{{end}}
<dt>{{$.W.Username}}</dt><dd class="mono">{{.Username}}</dd>
<dt>{{$.W.Code}}</dt><dd class="mono">{{.Code}}</dd>
<dt>{{$.W.Address}}</dt><dd class="mono">{{$.Address}}</dd></dl></div>
<div><svg viewBox="0 0 {{.Side}} {{.Side}}" role="img" aria-label="QR" shape-rendering="crispEdges"><path d="{{.Path}}"/></svg>
<p>{{$.W.How}} {{$.Days}}</p></div></article>
{{end}}</main></body></html>
`))

type item struct {
	Card
	Side int
	Path string
}

// HTML writes the sheet as a page that prints on A4, ten cards a page.
func HTML(w io.Writer, s *Sheet) error {
	if err := s.check(); err != nil {
		return err
	}
	text := s.words()
	items := make([]item, len(s.Cards))
	for i, c := range s.Cards {
		code, err := encode(c.URL)
		if err != nil {
			return err
		}
		var path strings.Builder
		for y := range code.Size {
			for x := 0; x < code.Size; x++ {
				n := 0
				for x+n < code.Size && code.Black(x+n, y) {
					n++
				}
				if n > 0 {
					fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", x+quiet, y+quiet, n, n)
					x += n
				}
			}
		}
		items[i] = item{c, code.Size + 2*quiet, path.String()}
	}
	return page.Execute(w, map[string]any{
		"Lang": s.Lang, "Organisation": s.Organisation, "Address": s.Address, "Items": items, "Days": fmt.Sprintf(text.days, s.Days),
		"W": map[string]string{"Title": text.title, "Class": text.class, "Username": text.username, "Code": text.code, "Address": text.address, "How": text.how},
	})
}
