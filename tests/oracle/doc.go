// Package oracle compares three judges of NetworkPolicy over random clusters, policies and packets:
// policy-render's evaluator, the rules that policy-render renders in a real kernel, and cyclonus, an
// independent implementation of the API's semantics that is used as the reference. It is a module of its
// own, outside go.work, because the reference brings all of client-go along.
package oracle
