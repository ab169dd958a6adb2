"""Guest XML (libvirt's domain format) to the devices and the machine that it asks for."""
