// Package storetest holds what keeps the back ends of package store honest: an
// in-memory Model of the contract, which tests of the domain also use as their
// store, and Run, the suite that every back end passes, random histories
// compared with the Model included.
//
// It owns no files and starts no goroutine. It never ships: only tests import
// it. A Model may be used from any goroutine; Run starts the goroutines its
// concurrency cases need and waits for them.
//
// The contract is written in pkg/store/store.go; what the suite checks beyond
// its sentences is said at each case.
package storetest
