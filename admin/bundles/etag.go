package bundles

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// version is what an ETag of ours says: "PLATFORM.REVISION.POLICY", the first and
// the last as the beginning of a hash. Equal versions are equal bundles, on every
// replica, so that no bundle has to be built to know its ETag. Who signs it counts as
// of the policy: another key makes another bundle, of the same platform.
type version struct {
	platform string
	revision policies.Revision
	policy   string
}

// format changes when the same data make another bundle.
const format = "2"

func versionOf(p policies.PlatformData, key *signing.Key) version {
	signedBy := ""
	if key != nil {
		signedBy = key.ID()
	}
	platform := sha256.Sum256([]byte(p.PlatformID()))
	policy := sha256.Sum256([]byte(format + "/" + signedBy + "/" + p.Policy().Digest.String()))
	return version{
		platform: hex.EncodeToString(platform[:6]),
		revision: p.Revision(),
		policy:   hex.EncodeToString(policy[:6]),
	}
}

func (v version) etag() string {
	return fmt.Sprintf("%q", v.platform+"."+v.revision.String()+"."+v.policy)
}

// known are the versions that a poll says it has. Any is true for "*".
type known struct {
	any  bool
	tags map[string]bool
	ours []version
}

// parseIfNoneMatch reads every If-None-Match of a request. It is nil if there is
// none: a stock OPA sends an empty one with its first request. What is not a tag
// of ours is something that the poll has and we do not.
func parseIfNoneMatch(h http.Header) *known {
	var k *known
	for tag := range strings.SplitSeq(strings.Join(h.Values("If-None-Match"), ","), ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/") // compared weakly: RFC 9110, 13.1.2
		if tag == "" {
			continue
		}
		if k == nil {
			k = &known{tags: make(map[string]bool)}
		}
		if len(k.tags) >= policies.MaxIfNoneMatch {
			break
		}
		k.any = k.any || tag == "*"
		k.tags[tag] = true
		if v, ok := parseTag(tag); ok {
			k.ours = append(k.ours, v)
		}
	}
	return k
}

func parseTag(tag string) (version, bool) {
	parts := strings.Split(strings.Trim(tag, `"`), ".")
	if len(parts) != 3 {
		return version{}, false
	}
	revision, err := policies.ParseRevision(parts[1])
	return version{parts[0], revision, parts[2]}, err == nil
}

// has tells whether whoever polls has v, or something newer of the same platform:
// a replica that is behind must not take a consumer back.
func (k *known) has(v version) bool {
	if k.any || k.tags[v.etag()] {
		return true
	}
	for _, o := range k.ours {
		if o.platform == v.platform && o.revision > v.revision {
			return true
		}
	}
	return false
}

// newest is the newest version that whoever polls has of present's platform;
// present itself if it names none. A 304 carries it as its ETag: OPA takes the
// ETag of a 304 for what it has, so that it must never be one that it has not got.
func (k *known) newest(present version) version {
	found := false
	newest := present
	for _, v := range k.ours {
		if v.platform == present.platform && (!found || v.revision > newest.revision) {
			newest, found = v, true
		}
	}
	return newest
}
