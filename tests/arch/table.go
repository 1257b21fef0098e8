// Package arch holds the plan of the house as data and checks the tree against
// it: who may import whom and why not, one importer for each library that is
// wrapped, sizes, names, package comments, and what must not stand in any file.
//
// It owns the table below (DESIGN 2 as code; ARCHITECTURE.md explains it). It
// reads source files only: nothing is built, and no version control is asked. A
// new package needs a row here first; a new arrow needs its reason.
package arch

// module is the prefix of our own import paths.
const module = "github.com/pipit-im/pipit/"

// row is one package: its storey, what of ours it may import beside the nouns
// (im, metrics, health) and its own parent, and what it is good for in a word.
type row struct {
	storey int
	may    []string
	is     string
}

// nouns may be imported by anyone.
var nouns = []string{"pkg/im", "pkg/metrics", "pkg/health"}

// below in a row's may is every package of a lower storey.
const below = "*"

// table is the house. Packages that do not exist yet have their row already.
var table = map[string]row{
	"pkg/im":      {0, nil, "the nouns"},
	"pkg/metrics": {0, nil, "the registry; whoever counts keeps plain atomics"},
	"pkg/health":  {0, nil, "named conditions"},

	"pkg/wire":      {1, nil, "pure functions between bytes and nouns"},
	"pkg/access":    {1, nil, "pure decisions"},
	"pkg/cards":     {1, nil, "the look of login cards; knows no user and makes no code"},
	"pkg/netloop":   {1, nil, "sockets; it knows no user and no message"},
	"pkg/wal":       {1, nil, "the log of a store; knows versions and bytes, and no badger"},
	"pkg/badgerlog": {1, nil, "what stands for the files that badger logs into; knows no record"},
	"pkg/badgerdir": {1, nil, "the other files that badger leaves in its directory; knows no record"},
	"pkg/prealloc":  {1, nil, "blocks for files in the moment they are sized; knows no store"},
	"pkg/config":    {1, nil, "settings; it knows nobody who reads them"},
	"pkg/doctor":    {1, nil, "what was shipped against what runs; knows no server"},
	"pkg/sysd":      {1, nil, "the machine; what progress is comes as probes"},
	"pkg/backup":    {2, []string{"pkg/snapshot"}, "the encrypted file of a whole box; what the store is, it is told"},
	"pkg/machine":   {1, nil, "the machine under the server; it reads files and knows no server"},
	"pkg/localca":   {1, nil, "certificates and the page about them; it opens no socket"},
	"pkg/snapshot":  {1, nil, "the form of a backup, for back ends and for whoever checks a copy; knows no record"},
	"pkg/update":    {1, nil, "which version of the server runs; it knows files, and nothing of what the versions do"},
	"pkg/client":    {1, []string{"pkg/wire"}, "the client speaks the protocol and nothing else of the server"},

	"pkg/store":             {2, nil, "the contract of the data"},
	"pkg/store/badgerstore": {2, []string{"pkg/wal", "pkg/badgerlog", "pkg/badgerdir", "pkg/prealloc", "pkg/snapshot"}, "one back end of the contract"},
	"pkg/store/sqlstore":    {2, nil, "one back end of the contract"},
	"pkg/store/storetest":   {2, nil, "the suite and the model of the contract"},
	"pkg/bus":               {2, nil, "the contract of events"},
	"pkg/bus/membus":        {2, nil, "one back end of the contract"},
	"pkg/bus/redisbus":      {2, nil, "one back end of the contract"},
	"pkg/bus/bustest":       {2, nil, "the suite of the contract"},

	"pkg/chat":        {3, []string{"pkg/store", "pkg/bus", "pkg/access"}, "the only write path"},
	"pkg/directory":   {3, []string{"pkg/store", "pkg/bus", "pkg/access"}, "tenants and users"},
	"pkg/auth":        {3, []string{"pkg/store"}, "credentials and tokens"},
	"pkg/auth/oidcop": {3, []string{"pkg/store"}, "sign-in for others; store for its clients and grants, which are records and sign-ins"},
	"pkg/auth/oidcrp": {3, []string{"pkg/store"}, "sign-in through others; store for its providers and links, which are records"},
	"pkg/audit":       {3, []string{"pkg/store"}, "what was done by whom; it stands beside the domain, which does not know it"},
	"pkg/archive":     {3, []string{"pkg/store"}, "a whole tenant on its way to another box; it looks at the store alone, as backup does"},
	"pkg/files":       {3, []string{"pkg/store", "pkg/access"}, "uploads"},
	"pkg/search":      {3, []string{"pkg/store", "pkg/bus"}, "an index that can be made anew"},

	"pkg/hub": {4, []string{"pkg/bus", "pkg/wire"}, "it delivers and decides nothing; membership reaches it as events"},

	"pkg/roster": {4, []string{"pkg/directory", "pkg/auth", "pkg/chat", "pkg/store"}, "rosters and classes: it moves people, passwords and conversations together, which the domain packages do not know of one another; store for its journal"},

	"pkg/gateway": {5, []string{"pkg/netloop", "pkg/wire", "pkg/auth", "pkg/chat", "pkg/hub"}, "the state machine of a session"},
	"pkg/api": {5, []string{"pkg/directory", "pkg/auth", "pkg/auth/oidcop", "pkg/auth/oidcrp", "pkg/audit", "pkg/archive", "pkg/chat", "pkg/files", "pkg/search", "pkg/roster", "pkg/cards", "pkg/access", "pkg/wire", "pkg/store", "pkg/api/apiclient"},
		"REST, in the shapes of the protocol (wire) and of the admin socket (apiclient, which the tools import, states them once); store for backup and verify alone"},
	"pkg/api/apiclient": {5, nil, "what the tools say to the admin socket"},
	"pkg/web":           {5, nil, "embedded files"},
	"pkg/provision":     {5, []string{"pkg/config"}, "the first boot; config for its strict parser, the server through an interface"},

	"pkg/app": {6, []string{below}, "the one place that names back ends and wires everything"},

	"cmd/pipitd":     {7, []string{"pkg/app", "pkg/config", "pkg/sysd", "pkg/update"}, "main of the server; sysd for the log that must be there before app, update for the version that runs at all"},
	"cmd/pipit":      {7, []string{"pkg/api/apiclient", "pkg/doctor", "pkg/provision", "pkg/client", "pkg/wire", "pkg/config", "pkg/app", "pkg/update", "pkg/backup", "pkg/machine", "pkg/localca"}, "the technician's tool; app for the offline store, wire for what tail shows"},
	"cmd/pipit-load": {7, []string{"pkg/client", "pkg/wire", "pkg/api/apiclient"}, "load; apiclient to make its own tenant and users"},

	"image/release": {7, []string{"pkg/update"}, "the lists of a release; update for the key that signs them"},
}

// reasons answers the imports that people will want most.
var reasons = []struct{ from, to, why string }{
	{"pkg/hub", "pkg/chat", "a hub that asks policy grows into the server: membership reaches it as bus events"},
	{"pkg/hub", "pkg/access", "the hub decides nothing; chat has decided before it publishes"},
	{"pkg/hub", "pkg/netloop", "the hub posts to loops through an interface of its own, so that its scripts run without sockets"},
	{"pkg/hub", "pkg/store", "what the hub delivers comes over the bus; a hole is repaired by the client from the log"},
	{"pkg/netloop", "", "the loops know no user: anything of ours reaches them through netloop.Handler"},
	{"pkg/client", "", "an independent client has the protocol alone; ours must not know more"},
	{"pkg/gateway", "pkg/store", "chat is the only write path, and reads go through its snapshots"},
	{"pkg/gateway", "pkg/directory", "what a session may see of users reaches it through chat's and auth's interfaces"},
	{"pkg/gateway", "pkg/bus", "events reach sessions through the hub, in order"},
	{"pkg/config", "", "settings are read by everybody's owner, app; config knows none of them"},
}

// domain packages never import one another: each is replaced and tested alone,
// and the composition root introduces them.
var domain = []string{"pkg/chat", "pkg/directory", "pkg/auth", "pkg/files", "pkg/search"}

// oneImporter holds libraries that are known in one place, so that they can be
// replaced and their traps are written down once. tests lists folders whose
// tests speak to the bare library on purpose.
var oneImporter = []struct {
	library   string
	importers []string
	tests     []string
	why       string
}{
	{"github.com/mailru/easygo", []string{"pkg/netloop"}, nil, "only netloop knows which half of netpoll is safe (its DESIGN.md)"},
	{"github.com/gobwas/", []string{"pkg/netloop", "pkg/client"}, []string{"tests/"}, "gobwas trusts its peer; netloop and client check before it reads"},
	{"github.com/spf13/viper", []string{"pkg/config"}, nil, "viper takes typos in silence; config does not"},
	{"github.com/coreos/go-systemd", []string{"pkg/sysd"}, nil, "sysd is where the server meets the machine"},
	{"github.com/dgraph-io/", []string{"pkg/store/badgerstore", "pkg/badgerdir"}, []string{"tests/"}, "badgerdir reads its file formats; nothing badger-shaped may reach the contract (DESIGN 5.8)"},
}

// Bounds of the house (DESIGN 7).
const (
	maxFileLines    = 1000
	maxPackageLines = 5000 // without tests
	maxPkgDepth     = 2    // folders below pkg/
)

// larger are the packages that may be longer, with the reason.
var larger = map[string]struct {
	lines int
	why   string
}{
	"cmd/pipit": {7000, "a file for each command, none of which knows another; what they do is in packages below"},
}

// topFolders are the visible folders of the top level, fixed by the user.
var topFolders = []string{"cmd", "pkg", "image", "systemd", "provisioning", "tests"}

// localFolders are made by running things, never committed; .gitignore names
// them.
var localFolders = []string{"var"}

// emptyNames say nothing about what is inside.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "types", "manager", "misc", "base", "core", "shared", "lib", "tools"}

// forbiddenText stands in no file: paths and hosts of somebody's machine make
// the tree work in one place only, and a mark to do something later is a thing
// not done. The words are taken apart so that this file passes its own check.
var forbiddenText = []struct{ text, why string }{
	{"/work" + "/main", "a path of one machine"},
	{"/work" + "/shared", "a path of one machine"},
	{"/work" + "/brief", "a path of one machine"},
	{"/root" + "/go/", "a path of one machine"},
	{"/home" + "/runner", "a path of one machine"},
	{"proxy" + ".golang.org", "a registry's host: the build uses whatever its environment names"},
	{"sum" + ".golang.org", "a registry's host"},
	{"registry" + ".npmjs.org", "a registry's host (npm: omit-lockfile-registry-resolved=true)"},
	{"registry" + ".yarnpkg.com", "a registry's host"},
	{"deb" + ".debian.org", "a registry's host"},
	{"TO" + "DO", "a thing not done"},
	{"FIX" + "ME", "a thing not done"},
}

// textFiles are the endings that forbiddenText and the line bound look at.
var textFiles = []string{".go", ".md", ".sh", ".yaml", ".yml", ".json", ".ts", ".svelte", ".css", ".html", ".service", ".socket", ".conf", ".toml", ".mod", "Makefile", "run"}

// blankImports are those whose side effect is not a registration.
var blankImports = []string{"embed"}

// maySkip are the tests that need root or a package of the distribution; they
// skip loudly, and with CI=true not at all.
var maySkip = []string{"tests/crash/", "tests/load/", "tests/signin/", "tests/image/boot/", "tests/twin/", "pkg/store/badgerstore/full_test.go", "pkg/prealloc/prealloc_test.go", "pkg/cards/cards_test.go"}

// easygoVersion is the only version of easygo that resolves.
const easygoVersion = "github.com/mailru/easygo v0.0.0-20190618140210-3c14a0dc985f"
