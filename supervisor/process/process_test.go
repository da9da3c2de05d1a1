package process

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Message
	}{
		{"READY=1", Message{Ready: true}},
		{"READY=1\nSTATUS=ok\n", Message{Ready: true, Status: "ok", HasIt: true}},
		{"STATUS=", Message{HasIt: true}},
		{"STATUS=a=b\nMAINPID=1", Message{Status: "a=b", HasIt: true}},
		{"READY=0\nready=1\nXREADY=1", Message{}},
		{"STATUS=\x1b[31mred\x07\xff", Message{Status: "[31mred ?", HasIt: true}},
		{"STATUS=" + strings.Repeat("ä", 300), Message{Status: strings.Repeat("ä", 199) + "…", HasIt: true}},
		{"FDSTORE=1", Message{Store: true}},
		{"FDSTORE=1\nFDNAME=tun.0", Message{Store: true, Name: "tun.0"}},
		{"FDNAME=tun\nFDSTOREREMOVE=1", Message{Forget: true, Name: "tun"}},
		{"FDSTORE=1\nFDNAME=a:b", Message{Store: true}},
		{"FDSTORE=0\nFDNAME=\nFDNAME=ä", Message{}},
		{"", Message{}},
	} {
		if c.want.Name == "" {
			c.want.Name = "stored"
		}
		if got := Parse(c.in); got != c.want {
			t.Errorf("Parse(%q) = %+v, want %+v", c.in, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("READY=1\nSTATUS=x\n")
	f.Add("STATUS=\x00\x9b\xe2")
	f.Add("FDSTORE=1\nFDNAME=a:b\nFDNAME=c d")
	f.Fuzz(func(t *testing.T, text string) {
		if m := Parse(text); strings.ContainsAny(m.Status, "\x00\x1b\n\r\u009b") || len([]rune(m.Status)) > 200 {
			t.Errorf("status %q", m.Status)
		}
		if m := Parse(text); m.Name == "" || strings.ContainsAny(m.Name, ": \x00\n\u00e4") || len(m.Name) > 255 {
			t.Errorf("name %q", m.Name)
		}
	})
}

func TestParseStat(t *testing.T) {
	const rest = " 1 42 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 0 0"
	got, err := parseStat(42, []byte("42 (a) R (b\n) S"+rest))
	want := Found{Identity: Identity{PID: 42, Start: 987654}, parent: 1, Group: 42, Session: 40}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if got, err := parseStat(42, []byte("42 (a) Z"+rest)); err != nil || !got.zombie {
		t.Errorf("zombie: %+v, %v", got, err)
	}
	for _, text := range []string{"", "42", "42 (a", "42 (a) S 1 2", "42 (a) S x" + rest} {
		if _, err := parseStat(42, []byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (a) S 1 42 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 0 0"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if f, err := parseStat(1, data); err == nil && f.PID != 1 {
			t.Errorf("%+v", f)
		}
	})
}

func TestIdentity(t *testing.T) {
	id, err := Identify(os.Getpid())
	if err != nil || !id.Alive() {
		t.Fatalf("this process: %+v, %v", id, err)
	}
	if (Identity{PID: id.PID, Start: id.Start + 1}).Alive() {
		t.Error("a later process of the same number is taken for this one")
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := openPIDFD(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	await(fd)
	fd.Close()
	if _, err := Identify(cmd.Process.Pid); err == nil {
		t.Error("a zombie runs")
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestEndString(t *testing.T) {
	for want, e := range map[string]End{
		"0":                    {Known: true},
		"1":                    {Known: true, Code: 1},
		"75 (try again later)": {Known: true, Code: 75},
		"signal: killed":       {Known: true, Code: -1, Signal: 9},
	} {
		if got := e.String(); got != want {
			t.Errorf("%+v is %q, want %q", e, got, want)
		}
	}
}

func TestSocketNameTooLong(t *testing.T) {
	_, err := openNotes("/"+strings.Repeat("x", 107), nil, Callbacks{})
	if err == nil || !strings.Contains(err.Error(), "shorter --run-dir") {
		t.Error(err)
	}
}
