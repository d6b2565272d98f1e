package ondemand

import (
	"net/url"
	"strconv"

	"github.com/usher-authz/usher/policies"
)

// Every key in Redis is made in this file:
//
//	usher/FORMAT/PLATFORM/EPOCH/POLICY/KIND/…
//
//	…/p/SUBJECT/TYPE/ID   permissions
//	…/o/TYPE/ID           owner of an environment or a group
//	…/s/ACCOUNT           existence of an account
//	…/a/ACCOUNT           an owner's account
//
// FORMAT is the version of the values' form. Nothing that is written under another
// platform, epoch, policy in force or format is ever looked at. Ids have no slash,
// and each kind has a fixed number of parts, so no two facts share a key.

// formatVersion changes whenever the form of keys or values does, the compact form
// of permissions included.
const formatVersion = "2"

// keyLetters name the kinds in keys; stamps stay in memory.
var keyLetters = [...]string{kindPermissions: "/p/", kindOwner: "/o/", kindSubject: "/s/", kindAccount: "/a/"}

// keyPrefix is the part that all keys of a platform, an epoch and a policy in
// force share.
func keyPrefix(platform string, epoch uint64, policy policies.Hash) string {
	return "usher/" + formatVersion + "/" + url.PathEscape(platform) + "/" +
		strconv.FormatUint(epoch, 10) + "/" + policy.String()
}

// key is where the fact named n stands in Redis.
func key(prefix string, n name) string {
	switch n.kind {
	case kindPermissions:
		return prefix + keyLetters[n.kind] + string(n.subject) + "/" + string(n.typ) + "/" + n.id
	case kindOwner:
		return prefix + keyLetters[n.kind] + string(n.typ) + "/" + n.id
	case kindSubject, kindAccount, kindStamp:
	}
	return prefix + keyLetters[n.kind] + n.id
}
