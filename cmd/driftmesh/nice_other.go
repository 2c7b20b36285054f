//go:build !unix

package main

// setNice does nothing where there are no Unix priorities.
func setNice(int) error { return nil }
