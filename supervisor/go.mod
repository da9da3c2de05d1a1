module github.com/towpath/towpath/supervisor

go 1.26.0

replace github.com/towpath/towpath/lib => ../lib
