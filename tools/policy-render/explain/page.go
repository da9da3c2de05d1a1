package explain

import (
	"bufio"
	"fmt"
	"html"
	"io"
)

// The page needs nothing from elsewhere, and may not fetch anything.
const pageHead = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>Who reaches whom</title>
<style>
body{font:15px/1.4 system-ui,sans-serif;margin:2em;color:#222;background:#fff}
table{border-collapse:collapse}
th,td{border:1px solid #ccc;padding:.25em .5em;text-align:center}
tbody th{text-align:left;font-weight:normal;max-width:30em}
thead th{position:sticky;top:0;background:#eee}
.a{background:#cfe8cf}.p{background:#fbe9b7}.d{background:#f3c9c9}.n{background:#eee}
summary{cursor:pointer}li{font-family:monospace}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}thead th{background:#333}th,td{border-color:#555}
.a{background:#1f4d1f}.p{background:#5c4a10}.d{background:#5e2323}.n{background:#2a2a2a}}
</style></head><body>
`

// HTML is a page of the table, self-contained; every name in it is escaped.
func (m *Matrix) HTML(w io.Writer) error {
	b := bufio.NewWriter(w)
	text := func(s string) string { return html.EscapeString(s) }
	pods := 0
	for _, g := range m.groups {
		pods += len(g.pods)
	}
	fmt.Fprint(b, pageHead)
	fmt.Fprintf(b, "<h1>Who reaches whom: %s</h1>\n<p>%d pods in %d groups; pods of a group are allowed the same. Rows are sources, columns destinations. "+
		"+ is allowed, ~ in part, − denied; point at a cell for the ports.</p>\n<table>\n<thead><tr><th></th>", text(m.asked()), pods, len(m.groups))
	for j := range m.groups {
		fmt.Fprintf(b, `<th scope="col" title="%s">%d</th>`, text(m.title(j)), j+1)
	}
	fmt.Fprint(b, "</tr></thead>\n<tbody>\n")
	for i, g := range m.groups {
		fmt.Fprintf(b, `<tr><th scope="row">%d `, i+1)
		if len(g.pods) > 1 {
			fmt.Fprintf(b, "<details><summary>%d pods, %s …</summary><ul>", len(g.pods), text(g.pods[0].String()))
			for _, p := range g.pods {
				fmt.Fprintf(b, "<li>%s</li>", text(p.String()))
			}
			fmt.Fprint(b, "</ul></details>")
		} else {
			fmt.Fprint(b, text(m.name(g)))
		}
		fmt.Fprint(b, "</th>")
		for j := range m.groups {
			symbol := m.at(i, j)
			class := map[string]string{"+": "a", "~": "p", "-": "d", " ": "n"}[symbol]
			if symbol == " " {
				fmt.Fprint(b, `<td class="n"></td>`)
				continue
			}
			if symbol == "-" {
				symbol = "−"
			}
			fmt.Fprintf(b, `<td class="%s" title="%s">%s</td>`, class, text(m.title(i)+" → "+m.title(j)+": "+m.cellTitle(m.answers[m.cells[i][j]])), symbol)
		}
		fmt.Fprint(b, "</tr>\n")
	}
	fmt.Fprint(b, "</tbody></table>\n")
	if notes := m.footnotes(); len(notes) > 0 {
		fmt.Fprint(b, "<p>Parts of the outside:</p>\n<ul>\n")
		for _, n := range notes {
			fmt.Fprintf(b, "<li>%s</li>\n", text(n))
		}
		fmt.Fprint(b, "</ul>\n")
	}
	fmt.Fprint(b, "</body></html>\n")
	return b.Flush()
}

// cellTitle is what one sees when pointing at a cell.
func (m *Matrix) cellTitle(a answer) string {
	if a.parts != "" {
		return a.parts
	}
	return m.words(a)
}
