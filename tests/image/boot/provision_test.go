package boot

// secretMark stands in each secret of pipit.yaml.
const secretMark = "secret-of-this-test"

// provisioning is a pipit.yaml as a person fills it in, with the technician's key.
func provisioning(key string) string {
	return `language: en
timezone: Europe/Berlin
organisation:
  name: Oakhill
  kind: school
administrator:
  name: Ann
  username: ann
network:
  wifi_name: Oakhill
  wifi_password: ` + secretMark + `
ssh:
  keys:
    - ` + key + "\n"
}
