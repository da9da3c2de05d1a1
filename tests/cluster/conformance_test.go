package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestConformanceResult gives conformance.jq a report with a test of each outcome. What was chosen must never be silent.
func TestConformanceResult(t *testing.T) {
	report := `[{"SpecReports": [
  {"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed", "RunTime": 1000},
  {"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeText": "holds", "State": "passed", "RunTime": 61900000000},
  {"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-x] A", "more"], "LeafNodeText": "breaks", "State": "failed", "RunTime": 2000000000,
   "Failure": {"Message": "\nHad 7 wrong results\nthe rest"}},
  {"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeText": "hangs", "State": "timedout", "RunTime": 3000000000, "Failure": {}},
  {"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeText": "asks too much", "State": "skipped", "Failure": {"Message": "needs two zones"}},
  {"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeText": "[Feature:SCTP] flows", "State": "skipped", "Failure": {}},
  {"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeText": "was forgotten", "State": "skipped", "Failure": {}},
  {"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-x] A"], "LeafNodeText": "[Slow] was not meant", "State": "skipped", "Failure": {}},
  {"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-y] B"], "LeafNodeText": "was not chosen", "State": "skipped", "Failure": {}},
  {"LeafNodeType": "SynchronizedAfterSuite", "State": "failed", "RunTime": 0, "Failure": {"Message": "left a namespace"}}
]}]`
	want := `failed  SynchronizedAfterSuite  (0 s): failed: left a namespace
skipped  [sig-x] A [Feature:SCTP] flows: no socket
skipped  [sig-x] A asks too much: needs two zones
failed  [sig-x] A hangs  (3 s): timedout
passed  [sig-x] A holds  (61 s)
failed  [sig-x] A more breaks  (2 s): failed: Had 7 wrong results
failed  [sig-x] A was forgotten  (0 s): did not run
1 passed, 4 failed, 2 skipped
`
	file := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(file, []byte(report), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("jq", "-r", "--arg", "without", `\[Feature:SCTP\]`, "--arg", "why", "no socket", "--arg", "except", `\[Slow\]`,
		"-f", "conformance.jq", file, "--args", `\[sig-x\].*()`, `\[sig-z\]`).CombinedOutput()
	if err != nil {
		t.Fatalf("jq: %v\n%s", err, out)
	}
	if string(out) != want {
		t.Errorf("result:\n%swant:\n%s", out, want)
	}
}
