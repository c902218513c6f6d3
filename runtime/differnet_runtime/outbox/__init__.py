"""Events that outlive everything: written down before they are sent, kept until they are taken."""
