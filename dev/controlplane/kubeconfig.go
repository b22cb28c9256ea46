package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func adminKubeconfig(dataDir string) string { return filepath.Join(dataDir, "admin.kubeconfig") }

// writeKubeconfig writes a kubeconfig with everything in line, so that the file can be copied anywhere.
func writeKubeconfig(path, endpoint string, ca []byte, user string, auth *clientcmdapi.AuthInfo) error {
	const name = "controlplane"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: endpoint, CertificateAuthorityData: ca}
	config.AuthInfos[user] = auth
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("writing the kubeconfig %s: %w", path, err)
	}
	return nil
}

func (p pki) writeKubeconfig(path, endpoint string, id identity) error {
	ca, err := os.ReadFile(p.ca())
	if err != nil {
		return fmt.Errorf("reading the authority's certificate: %w", err)
	}
	cert, err := os.ReadFile(p.cert(id.file))
	if err != nil {
		return fmt.Errorf("reading the certificate of %s: %w", id.user, err)
	}
	key, err := os.ReadFile(p.key(id.file))
	if err != nil {
		return fmt.Errorf("reading the key of %s: %w", id.user, err)
	}
	return writeKubeconfig(path, endpoint, ca, id.user, &clientcmdapi.AuthInfo{
		ClientCertificateData: cert, ClientKeyData: key,
	})
}

// loadConfig reads a kubeconfig for clients that are not to be held back: what is being tested is the controller, not
// the patience of the machinery around it.
func loadConfig(path string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig %s: %w", path, err)
	}
	config.QPS = -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	return config, nil
}

type tokenOptions struct {
	dataDir        string
	serviceAccount string
	expiration     time.Duration
	out            string
}

// minimumExpiration is the shortest life of a token that the API server grants.
const minimumExpiration = 10 * time.Minute

// parseServiceAccount splits NAMESPACE/NAME.
func parseServiceAccount(text string) (namespace, name string, err error) {
	namespace, name, found := strings.Cut(text, "/")
	if !found || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", usageError{fmt.Errorf("--service-account: expected NAMESPACE/NAME such as kube-system/karpenter, found %q", text)}
	}
	return namespace, name, nil
}

func writeServiceAccountKubeconfig(ctx context.Context, o tokenOptions) error {
	namespace, name, err := parseServiceAccount(o.serviceAccount)
	if err != nil {
		return err
	}
	if o.expiration < minimumExpiration {
		return usageError{fmt.Errorf("--expiration: expected at least %s (the API server grants no less), found %s", minimumExpiration, o.expiration)}
	}
	admin := adminKubeconfig(o.dataDir)
	if _, err := os.Stat(admin); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("expected %s, found no such file: is %q the --data-dir of a running control plane?", admin, o.dataDir)
	}
	config, err := loadConfig(admin)
	if err != nil {
		return err
	}
	ca := config.CAData
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client from %s: %w", admin, err)
	}

	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	seconds := int64(o.expiration / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	granted, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("expected the ServiceAccount %s/%s, found none: create it first (%w)", namespace, name, err)
	case err != nil:
		return fmt.Errorf("asking %s for a token of %s/%s: %w", config.Host, namespace, name, err)
	case granted.Status.Token == "":
		return fmt.Errorf("expected a token of %s/%s, found an empty one in the API server's answer", namespace, name)
	}
	user := "system:serviceaccount:" + namespace + ":" + name
	return writeKubeconfig(o.out, config.Host, ca, user, &clientcmdapi.AuthInfo{Token: granted.Status.Token})
}
