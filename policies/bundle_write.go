package policies

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"

	"github.com/usher-authz/usher/policies/signing"
)

// The files of a bundle beside its Rego modules.
const (
	bundleManifest  = "/.manifest"
	bundleData      = "/data.json"
	bundleCatalogue = "/catalogue.json" // the whole catalogue; OPA passes it over
)

// bundleRoot is the part of OPA's data that a bundle owns.
const bundleRoot = "usher"

// manifest's fields stand in the order of their names, as all that is signed.
type manifest struct {
	Metadata    manifestMetadata `json:"metadata"`
	RegoVersion int              `json:"rego_version"`
	Revision    string           `json:"revision"`
	Roots       []string         `json:"roots"`
}

type manifestMetadata struct {
	Platform     string `json:"platform"`
	PolicyDigest Hash   `json:"policy_digest"`
}

// WriteBundle writes p as an OPA bundle: a tar.gz that a stock `opa run` loads.
// Equal platforms give equal bytes. It reads p.Accounts and p.Subjects once and
// holds one account at a time; of the data it keeps only the compressed form
// until all is known that stands before it in the file (a tar entry begins with
// its size). Data over [MaxBundleFileBytes] are a [*TooLargeError].
//
//	gzip member 1     .manifest, catalogue.json, *.rego, the header of data.json
//	gzip members 2…   data.json in parts, each compressed while its source is read
//	gzip member last  the end of the tar
func WriteBundle(w io.Writer, p PlatformData) error { return WriteSignedBundle(w, p, nil) }

// WriteSignedBundle writes p as [WriteBundle] does, signed with key, or not at all if
// that is nil. Signatures of equal bytes differ.
func WriteSignedBundle(w io.Writer, p PlatformData, key *signing.Key) error {
	policy := p.Policy()
	m, err := json.Marshal(manifest{
		Revision:    p.Revision().String(),
		Roots:       []string{bundleRoot},
		RegoVersion: 1,
		Metadata:    manifestMetadata{Platform: p.PlatformID(), PolicyDigest: policy.Digest},
	})
	if err != nil {
		return fmt.Errorf("encode the bundle's manifest: %w", err)
	}
	catalogue, err := CanonicalJSON(policy.Catalogue)
	if err != nil {
		return fmt.Errorf("encode the catalogue: %w", err)
	}
	data, err := newDataParts(p)
	if err != nil {
		return err
	}

	head := new(bytes.Buffer)
	tw := tar.NewWriter(head)
	sums := fileSums{}
	add := func(name string, content []byte) {
		_, _ = sums.of(name).Write(content) // a hash takes everything
		err = firstError(err, tw.WriteHeader(tarHeader(name, int64(len(content)))))
		_, e := tw.Write(content)
		err = firstError(err, e)
	}
	add(bundleManifest, m)
	add(bundleCatalogue, catalogue)
	for _, name := range slices.Sorted(maps.Keys(policy.Modules)) {
		add(path.Join("/", name), []byte(policy.Modules[name]))
	}
	size := data.size()
	if size > MaxBundleFileBytes {
		return &TooLargeError{What: "the bundle's data.json", Limit: MaxBundleFileBytes}
	}
	if key != nil {
		if err := data.hashTo(sums.of(bundleData)); err != nil {
			return err
		}
		signature, e := sums.sign(key)
		if err = firstError(err, e); err != nil {
			return err
		}
		add(bundleSignatures, signature)
	}
	err = firstError(err, tw.Flush())
	err = firstError(err, tw.WriteHeader(tarHeader(bundleData, size)))
	if err != nil {
		return fmt.Errorf("write the bundle's tar: %w", err)
	}

	if err := writeMember(w, head.Bytes()); err != nil {
		return err
	}
	for _, part := range data {
		if _, err := w.Write(part.compressed.Bytes()); err != nil {
			return fmt.Errorf("write the bundle: %w", err)
		}
	}
	const block = 512 // of tar: contents are filled up, and two empty blocks end it
	return writeMember(w, make([]byte, (block-size%block)%block+2*block))
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func tarHeader(name string, size int64) *tar.Header {
	return &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644,
		ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	}
}

func writeMember(w io.Writer, content []byte) error {
	zw := gzip.NewWriter(w)
	_, err := zw.Write(content)
	if err = firstError(err, zw.Close()); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	return nil
}

// part is a piece of data.json: the gzip member, and how many bytes are in it.
type part struct {
	compressed bytes.Buffer
	zw         *gzip.Writer
	size       int64
	members    int // of the JSON object in it
}

func newPart() *part { return newPartLevel(gzip.DefaultCompression) }

func newPartLevel(level int) *part {
	p := new(part)
	p.zw, _ = gzip.NewWriterLevel(&p.compressed, level) // fails for levels that there are not
	return p
}

// textPart is a part with a short text; stateless compression needs no buffers.
func textPart(text []byte) *part {
	p := newPartLevel(gzip.StatelessCompression)
	_, _ = p.Write(text)
	_ = p.close()
	return p
}

// Write compresses. It cannot fail: a bytes.Buffer takes everything.
func (p *part) Write(b []byte) (int, error) {
	n, err := p.zw.Write(b)
	p.size += int64(n)
	return n, err
}

func (p *part) close() error { return p.zw.Close() }

// name begins a member of the object that p holds.
func (p *part) name(s string) error {
	var text []byte
	if p.members++; p.members > 1 {
		text = append(text, ',')
	}
	text, err := jsontext.AppendQuote(text, s)
	if err != nil {
		return fmt.Errorf("quote %q: %w", s, err)
	}
	_, err = p.Write(append(text, ':'))
	return err
}

// member writes a member whose value is a string, or true.
func (p *part) member(name, value string) error {
	if err := p.name(name); err != nil {
		return err
	}
	text := []byte("true")
	if value != "" {
		var err error
		if text, err = jsontext.AppendQuote(nil, value); err != nil {
			return fmt.Errorf("quote %q: %w", value, err)
		}
	}
	_, err := p.Write(text)
	return err
}

// dataParts are data.json in order. The same part may stand in it twice.
type dataParts []*part

func (d dataParts) size() int64 {
	var n int64
	for _, p := range d {
		n += p.size
	}
	return n
}

func newDataParts(p PlatformData) (dataParts, error) {
	subjects, categories, err := subjectParts(p.Subjects())
	if err != nil {
		return nil, err
	}
	environments, groups, accounts, err := accountParts(p.Accounts())
	if err != nil {
		return nil, err
	}
	catalogue, err := CanonicalJSON(p.Policy().Catalogue.Data())
	if err != nil {
		return nil, fmt.Errorf("encode the catalogue: %w", err)
	}
	text := func(format string, args ...any) *part { return textPart(fmt.Appendf(nil, format, args...)) }
	// In the order of names: see bundleSignatures.
	return dataParts{
		text(`{%q:{"accounts":{`, bundleRoot), accounts,
		text(`},"catalogue":%s,"owners":{"account":{`, catalogue), categories,
		text(`},"environment":{`), environments,
		text(`},"environments":{`), categories,
		text(`},"group":{`), groups,
		text(`},"groups":{`), categories,
		text(`}},"revision":%d,"subjects":{`, p.Revision()), subjects,
		text("}}}"),
	}, nil
}

// subjectParts are the members of data.usher.subjects, and of the owners of the
// three categories, which are the accounts themselves.
func subjectParts(all iter.Seq[AccountID]) (subjects, categories *part, err error) {
	subjects, categories = newPart(), newPart()
	for id := range all {
		if err := firstError(subjects.member(string(id), ""), categories.member(string(id), string(id))); err != nil {
			return nil, nil, err
		}
	}
	return subjects, categories, firstError(subjects.close(), categories.close())
}

// accountParts are the members of data.usher.owners.environment, of
// data.usher.owners.group and of data.usher.accounts, in one walk.
func accountParts(all iter.Seq2[AccountID, *AccountData]) (environments, groups, accounts *part, err error) {
	var environment, group []owned
	accounts = newPart()
	for owner, data := range all {
		for id := range data.Environments {
			environment = append(environment, owned{string(id), owner})
		}
		for id := range data.Groups {
			group = append(group, owned{string(id), owner})
		}
		err = firstError(err, accounts.name(string(owner)))
		err = firstError(err, json.MarshalWrite(accounts, data, json.Deterministic(true), jsontext.EscapeForJS(true)))
		if err != nil {
			return nil, nil, nil, fmt.Errorf("encode the data of account %q: %w", owner, err)
		}
	}
	environments, err = ownedPart(environment)
	groups, e := ownedPart(group)
	return environments, groups, accounts, firstError(err, firstError(e, accounts.close()))
}

// owned is a resource and who owns it.
type owned struct {
	id    string
	owner AccountID
}

func ownedPart(all []owned) (*part, error) {
	slices.SortFunc(all, func(a, b owned) int { return strings.Compare(a.id, b.id) })
	p := newPart()
	for _, o := range all {
		if err := p.member(o.id, string(o.owner)); err != nil {
			return nil, err
		}
	}
	return p, p.close()
}
