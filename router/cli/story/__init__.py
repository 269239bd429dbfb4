"""The demo's story: ten minutes of an Azure region that slows, throttles, dies and recovers, told in one."""
