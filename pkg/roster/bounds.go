package roster

// The bounds of what is read. A school of 4,000 with all its history is a tenth
// of them.
const (
	MaxUploadBytes = 32 << 20  // an archive or a file as it comes
	MaxFileBytes   = 64 << 20  // one file of an archive, unpacked
	MaxTotalBytes  = 128 << 20 // all files of an archive that are read, unpacked
	MaxFiles       = 64        // files in an archive or a folder
	MaxRows        = 500_000   // rows of one file
	MaxCellBytes   = 4096      // one cell
	MaxColumns     = 200       //
	MaxProblems    = 1000      // that are told; all are counted
	MaxClasses     = 5000
)
