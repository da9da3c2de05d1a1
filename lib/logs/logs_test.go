package logs

import (
	"bytes"
	"strings"
	"testing"
)

func TestEmptyHint(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var b bytes.Buffer
		log, err := New(&b, "demo", "info", format)
		if err != nil {
			t.Fatal(err)
		}
		log.Error("no hint", "hint", "", "dev", "")
		if got := b.String(); strings.Contains(got, "hint=") || strings.Contains(got, `"hint"`) || !strings.Contains(got, "dev") {
			t.Errorf("%s: %s", format, got)
		}
		log.Error("hint", "hint", "do this")
		if got := b.String(); !strings.Contains(got, "do this") {
			t.Errorf("%s: %s", format, got)
		}
	}
}
