module github.com/towpath/towpath/tests

go 1.26.0

replace github.com/towpath/towpath/lib => ../lib
