// Package tests holds what spans several programs.
package tests
