package policiestest

import (
	"strconv"
	"strings"

	"github.com/usher-authz/usher/policies"
)

// naming makes ids and names that are unusual but valid, and tell those apart
// that must be.
type naming struct {
	dice Dice
	ids  map[string]map[string]bool // namespace → taken
	keys map[string]map[string]bool // namespace → taken NameKeys
}

// idPool is shared by all kinds of things, so that an environment, a group, a
// role and an account often have the same id.
var idPool = []string{
	"a", "A", "b", "e1", "g1", "owner", "mia", "0", "1", "00", "1e3", "true", "null", "x.y", "x_y", "x:y", "x@y.z", "x-y",
	"groups", "group", "environments", "environment", "account", "constructor", "length", "data", "input", "usher",
	"Z9:._@-", "a.b.c.d.e.f", "mia@example.com", "environment.view", "Viewer", "id-with-many-dashes--",
}

var namePool = []string{
	"Viewer", "Developer", "admin", "Prod", "prod 2", "Ünïcode", "Straße", "ΣΊΣΥΦΟΣ", "имя",
	"名前", "שם", "اسم", "👩‍💻 team", "🇫🇷", //nolint:gosmopolitan // names in any script are the point
	`quotes "and" \backslash\`, "<b>bold</b> & more", "a/b/c", "100%", "{{.Name}}", "null", "true", "0", "é", "Å", "ﬁ", "x y", "'; drop table",
}

func newNaming(d Dice) *naming {
	return &naming{dice: d, ids: map[string]map[string]bool{}, keys: map[string]map[string]bool{}}
}

// id is a new id in the namespace.
func (n *naming) id(namespace string) string {
	if n.ids[namespace] == nil {
		n.ids[namespace] = map[string]bool{}
	}
	base := pick(n.dice, idPool)
	if chance(n.dice, 20) {
		base = strings.Repeat(base, policies.MaxIDLength)[:policies.MaxIDLength]
	}
	id := base
	for i := 2; n.ids[namespace][id]; i++ {
		suffix := "-" + strconv.Itoa(i)
		id = base[:min(len(base), policies.MaxIDLength-len(suffix))] + suffix
	}
	n.ids[namespace][id] = true
	return id
}

// name is a new name in the namespace, which refused does not refuse.
func (n *naming) name(namespace string, refused func(string) bool) string {
	if n.keys[namespace] == nil {
		n.keys[namespace] = map[string]bool{}
	}
	base := policies.NormalizeName(pick(n.dice, namePool))
	name := base
	for i := 2; n.keys[namespace][policies.NameKey(name)] || refused(name); i++ {
		name = base + " " + strconv.Itoa(i)
	}
	n.keys[namespace][policies.NameKey(name)] = true
	return name
}

// text is any display name or description, often none.
func (n *naming) text() string {
	if chance(n.dice, 2) {
		return ""
	}
	return policies.NormalizeName(pick(n.dice, namePool))
}
