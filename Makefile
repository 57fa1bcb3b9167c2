# make run       a mesh on this machine, for trying out
# make mesh      several processes on this machine, to kill one and watch
# make test      every test there is
# make check     form, lints, documentation, licences, sources, unused dependencies
# make sim       whole meshes in virtual time, many or one: SEEDS=1000 FROM=1, SEED=7, LARGE=1
# make fuzz      look for inputs that break a reader of strangers' bytes
# make smoke     the load-test harness against a mesh of its own: every feature once
# make loadtest  its scenarios against several processes: SCENARIOS="large-room chaos"
# make bench     measure and print
# make chaos     kill parts of a mesh under calls, and say what people notice
# make web       only the browser client, which signaling embeds

.PHONY: run mesh test check sim fuzz smoke loadtest bench chaos web

run mesh test check sim fuzz smoke loadtest bench chaos web:
	@deploy/scripts/$@ $(ARGS)
