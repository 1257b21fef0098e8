package boot

// secretMark stands in each secret of pipit.yaml.
const secretMark = "secret-of-this-test"

// provisioning is a pipit.yaml as a person fills it in, with the technician's key.
func provisioning(key string) string {
	return "ssh:\n  keys:\n    - " + key + "\n"
}
