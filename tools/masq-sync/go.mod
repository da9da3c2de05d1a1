module github.com/towpath/towpath/tools/masq-sync

go 1.26.0

replace github.com/towpath/towpath/lib => ../../lib
