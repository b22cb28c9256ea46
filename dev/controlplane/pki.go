package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// serviceRange is the range of Service addresses, the one EKS uses by default. Its first address is the API server's.
const (
	serviceRange   = "172.20.0.0/16"
	apiServiceAddr = "172.20.0.1"
)

// pkiLifetime is long enough for any test and short enough that a forgotten admin key is worth nothing for long.
const pkiLifetime = 30 * 24 * time.Hour

// pki names the files of one control plane's keys. One authority signs everything: servers, clients and etcd. A client
// of etcd is told from a client of the API server by nothing but its key, which is good enough on loopback.
type pki struct{ dir string }

// identity is a client certificate: who it is to the API server, and where it is kept.
type identity struct {
	file string
	user string
	// groups become the certificate's organisations; the API server reads them back as groups.
	groups []string
}

var (
	identityAdmin     = identity{file: "admin", user: "controlplane-admin", groups: []string{"system:masters"}}
	identityKCM       = identity{file: "kube-controller-manager", user: "system:kube-controller-manager"}
	identityScheduler = identity{file: "kube-scheduler", user: "system:kube-scheduler"}
	// The simulated kubelets act for every node at once, which no system:node identity may.
	identitySimulation = identity{file: "simulation", user: "controlplane-simulation", groups: []string{"system:masters"}}
	identityEtcdClient = identity{file: "etcd-client", user: "kube-apiserver"}
)

func (p pki) cert(name string) string { return filepath.Join(p.dir, name+".crt") }
func (p pki) key(name string) string  { return filepath.Join(p.dir, name+".key") }
func (p pki) ca() string              { return p.cert("ca") }
func (p pki) serviceAccountKey() string {
	return p.key("service-account")
}
func (p pki) serviceAccountPublicKey() string { return filepath.Join(p.dir, "service-account.pub") }

// ensurePKI makes the keys of a control plane, or keeps those of an earlier run: tokens and kubeconfigs handed out then
// stay valid. The marker is written last, so that a run that was cut short starts afresh.
func ensurePKI(dir string, now time.Time) (pki, error) {
	p := pki{dir: dir}
	marker := filepath.Join(dir, "complete")
	if _, err := os.Stat(marker); err == nil {
		return p, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("looking for the keys of an earlier run: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return p, fmt.Errorf("creating the directory for keys: %w", err)
	}

	caKey, err := newKey()
	if err != nil {
		return p, err
	}
	ca := template("controlplane-ca", now)
	ca.IsCA = true
	ca.BasicConstraintsValid = true
	ca.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign
	if err := p.write("ca", ca, ca, caKey, caKey); err != nil {
		return p, err
	}

	// etcd checks the certificates of its clients, and dials itself with the one it serves with.
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	server := template("loopback-server", now)
	server.ExtKeyUsage = both
	server.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(apiServiceAddr)}
	server.DNSNames = []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}
	if err := p.issue("server", server, ca, caKey); err != nil {
		return p, err
	}

	for _, id := range []identity{identityAdmin, identityKCM, identityScheduler, identitySimulation, identityEtcdClient} {
		client := template(id.user, now)
		client.Subject.Organization = id.groups
		client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if err := p.issue(id.file, client, ca, caKey); err != nil {
			return p, err
		}
	}

	saKey, err := newKey()
	if err != nil {
		return p, err
	}
	if err := writeKey(p.serviceAccountKey(), saKey); err != nil {
		return p, err
	}
	public, err := x509.MarshalPKIXPublicKey(saKey.Public())
	if err != nil {
		return p, fmt.Errorf("encoding the public key of ServiceAccount tokens: %w", err)
	}
	if err := writePEM(p.serviceAccountPublicKey(), "PUBLIC KEY", public); err != nil {
		return p, err
	}
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		return p, fmt.Errorf("marking the keys as complete: %w", err)
	}
	return p, nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a P-256 key: %w", err)
	}
	return key, nil
}

func template(name string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name},
		// An hour back, for clocks that are set while the tests run.
		NotBefore: now.Add(-time.Hour),
		NotAfter:  now.Add(pkiLifetime),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

func (p pki) issue(name string, cert, ca *x509.Certificate, caKey *ecdsa.PrivateKey) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	return p.write(name, cert, ca, key, caKey)
}

func (p pki) write(name string, cert, ca *x509.Certificate, key, caKey *ecdsa.PrivateKey) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return fmt.Errorf("choosing a serial number for %s: %w", name, err)
	}
	cert.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, key.Public(), caKey)
	if err != nil {
		return fmt.Errorf("signing the certificate %s: %w", name, err)
	}
	if err := writePEM(p.cert(name), "CERTIFICATE", der); err != nil {
		return err
	}
	return writeKey(p.key(name), key)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the key for %s: %w", path, err)
	}
	return writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("writing a key or certificate: %w", err)
	}
	return nil
}
