module github.com/towpath/towpath/tools/hostgw-setup

go 1.26.0

replace github.com/towpath/towpath/lib => ../../lib
