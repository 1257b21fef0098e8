apt-get install -y --no-install-recommends /var/cache/pipit/pipit.deb
rm -r /var/cache/pipit

systemd-sysusers

# SSH starts when pipit.yaml brought a key, and not before (ssh.service.d).
systemctl enable ssh
rm -f /etc/ssh/ssh_host_*

# The password that pi-gen wanted is nobody's.
for user in root pi; do
	if getent passwd "${user}" >/dev/null; then
		usermod --password '*' "${user}"
	fi
done
