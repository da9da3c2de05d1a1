module github.com/towpath/towpath/tools/vxlan-setup

go 1.26.0

replace github.com/towpath/towpath/lib => ../../lib
