module github.com/towpath/towpath/tools/policy-render

go 1.26.0

require github.com/towpath/towpath/lib v0.0.0

replace github.com/towpath/towpath/lib => ../../lib
