// Package image holds what Pipit is flashed with against the rules of those who
// read it: pi-gen's stages, cloud-init's files, the package list, the release's
// lists. These checks are quick and need no image. Package boot beside this one
// builds the card and boots it.
package image
