# ginkgo's report → a line for each test that one of the positional patterns chooses, and a last line of sums.
# $except: a pattern of tests that are not meant; $without: of those that were left out, $why: the reason.
def line: split("\n") | map(select(. != "")) | (.[0] // "") | .[:300];

def outcome:
  if .State == "passed" then {as: "passed", because: ""}
  elif .State != "skipped" then {as: "failed", because: ([.State, (.Failure.Message // "" | line)] | map(select(. != "")) | join(": "))}
  elif (.Failure.Message // "") != "" then {as: "skipped", because: (.Failure.Message | line)}
  elif $without != "" and (.name | test($without)) then {as: "skipped", because: $why}
  else {as: "failed", because: "did not run"} end;

def sum($lines; $what): [$lines[] | select(.as == $what)] | length | "\(.) \($what)";

[.[].SpecReports[] | .name = ((.ContainerHierarchyTexts // []) + [.LeafNodeText] | join(" "))] as $all
| [$all[] | select(.LeafNodeType == "It") | select(([.name | test($ARGS.positional[])] | any) and (.name | test($except) | not)) | . + outcome] as $tests
# What runs before and after all tests shows only where it failed: then they did not run, or left something behind.
| [$all[] | select(.LeafNodeType != "It" and .State != "passed") | .name = .LeafNodeType | . + outcome] as $around
| ($tests + $around | sort_by(.name)) as $lines
| ($lines[] | "\(.as)  \(.name)" + (if .as == "skipped" then "" else "  (\((.RunTime // 0) / 1e9 | floor) s)" end) + (if .because == "" then "" else ": \(.because)" end)),
  ([sum($lines; "passed"), sum($lines; "failed"), sum($lines; "skipped")] | join(", "))
