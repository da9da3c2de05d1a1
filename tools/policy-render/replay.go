package main

import "io"

// replay is a reader that begins anew once it was read to its end: what came from standard input is wanted again
// when the outcome of an apply is checked.
type replay struct {
	source io.Reader
	data   []byte
	at     int
}

func (r *replay) Read(p []byte) (int, error) {
	if r.source != nil {
		n, err := r.source.Read(p)
		r.data = append(r.data, p[:n]...)
		if err == io.EOF {
			r.source = nil
		}
		return n, err
	}
	if r.at == len(r.data) {
		r.at = 0
		return 0, io.EOF
	}
	n := copy(p, r.data[r.at:])
	r.at += n
	return n, nil
}
