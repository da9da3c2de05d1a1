module github.com/towpath/towpath/tools/cni-bridge

go 1.26.0

replace github.com/towpath/towpath/lib => ../../lib
