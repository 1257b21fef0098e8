// Package boot proves the card image: that it is the same each time it is
// assembled, that its file systems are sound, and that the real thing boots in a
// virtual machine (tests/image/guest) into a server that holds 4000 people.
//
// PIPIT_IMAGE names the card's file; `make image-test` builds it and runs this.
// Boots cost minutes under emulation, so one boot serves many checks. Each test
// works on a copy of the card. What QEMU cannot show, image/README.md lists.
package boot
