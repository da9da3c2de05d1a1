module github.com/towpath/towpath/tools/policy-load

go 1.26.0

replace github.com/towpath/towpath/lib => ../../lib
