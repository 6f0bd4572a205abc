//! The hosts of a cluster in a file, for those who start agents by hand or by tools of their own.
//!
//! ```
//! use homa::load::cluster::inventory::Inventory;
//!
//! let inventory = Inventory::from_toml(
//!     r#"
//!     coordinator = "192.168.0.10:7146"
//!     options = ["--link-gbps=25"]
//!
//!     [[host]]
//!     name = "n1"
//!     address = "10.0.0.1/24"
//!     device = "pci:0000:3b:00.0"
//!     cores = "2-3"
//!
//!     [[host]]
//!     name = "n2"
//!     address = "10.0.0.2/24"
//!     device = "pci:0000:5e:00.0"
//!     options = ["--mtu=9000"]
//!     "#,
//! )?;
//! assert_eq!(inventory.names(), ["n1", "n2"]);
//! assert!(inventory.agent_options("n2").is_some_and(|options| options.contains(&"--mtu=9000".to_owned())));
//! # Ok::<(), homa::load::cluster::inventory::InventoryError>(())
//! ```

use std::fmt;

use serde::Deserialize;

/// The hosts of a cluster; their order is that of their ranks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Where agents find the coordinator, `HOST:PORT`; absent if each is told otherwise.
    pub coordinator: Option<String>,
    /// Options of all agents, as on the command line.
    #[serde(default)]
    pub options: Vec<String>,
    /// The hosts.
    #[serde(rename = "host")]
    pub hosts: Vec<InventoryHost>,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InventoryHost {
    /// Its name.
    pub name: String,
    /// Its address in the network under test with the length of the prefix, such as `10.0.0.1/24`.
    pub address: String,
    /// Its port, such as `pci:0000:3b:00.0`.
    pub device: String,
    /// CPUs to run on, such as `2-3`.
    pub cores: Option<String>,
    /// Further options of the agent, as on the command line.
    #[serde(default)]
    pub options: Vec<String>,
}

/// An inventory that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventoryError(String);

impl fmt::Display for InventoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InventoryError {}

impl Inventory {
    /// Reads an inventory.
    ///
    /// # Errors
    /// The text is not TOML or has other members, there is no host, or two have one name or address.
    pub fn from_toml(text: &str) -> Result<Self, InventoryError> {
        let inventory: Self =
            toml::from_str(text).map_err(|error| InventoryError(error.to_string()))?;
        if inventory.hosts.is_empty() {
            return Err(InventoryError("no [[host]]".to_owned()));
        }
        for (index, host) in inventory.hosts.iter().enumerate() {
            for other in &inventory.hosts[..index] {
                if host.name == other.name {
                    return Err(InventoryError(format!("two hosts are named \"{}\"", host.name)));
                }
                if host.address == other.address {
                    return Err(InventoryError(format!(
                        "{} and {} have the address {}",
                        other.name, host.name, host.address
                    )));
                }
            }
        }
        Ok(inventory)
    }

    /// The names of the hosts by rank.
    pub fn names(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.name.clone()).collect()
    }

    /// The options of the agent on host `name`; `None` if there is no such host.
    pub fn agent_options(&self, name: &str) -> Option<Vec<String>> {
        let host = self.hosts.iter().find(|host| host.name == name)?;
        let mut options =
            vec![format!("--device={}", host.device), format!("--ip={}", host.address)];
        options.extend(host.cores.iter().map(|cores| format!("--cores={cores}")));
        options.extend(self.coordinator.iter().map(|at| format!("--coordinator={at}")));
        options.extend(self.options.iter().chain(&host.options).cloned());
        Some(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, address: &str) -> String {
        format!("[[host]]\nname = \"{name}\"\naddress = \"{address}\"\ndevice = \"null\"\n")
    }

    #[test]
    fn options_of_all_and_of_one() {
        let text = format!(
            "coordinator = \"c:1\"\noptions = [\"--idle=yield\"]\n{}cores = \"3\"\n{}",
            host("a", "10.0.0.1/24"),
            host("b", "10.0.0.2/24") + "options = [\"--mtu=9000\"]\n"
        );
        let inventory = Inventory::from_toml(&text).unwrap();
        let options = |name| inventory.agent_options(name).unwrap().join(" ");
        assert_eq!(
            options("a"),
            "--device=null --ip=10.0.0.1/24 --cores=3 --coordinator=c:1 --idle=yield"
        );
        assert!(options("b").ends_with("--coordinator=c:1 --idle=yield --mtu=9000"));
        assert_eq!(inventory.agent_options("c"), None);
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| Inventory::from_toml(text).unwrap_err().to_string();
        assert!(error("host = []").contains("no [[host]]"));
        assert!(error("").contains("host"), "{}", error(""));
        assert!(error("[[host]]\nname = \"a\"\n").contains("missing field `address`"));
        assert!(error(&(host("a", "1") + "core = 1\n")).contains("unknown field `core`"));
        assert!(error(&(host("a", "1") + &host("a", "2"))).contains("two hosts are named \"a\""));
        assert!(error(&(host("a", "1") + &host("b", "1"))).contains("a and b have the address 1"));
        assert!(error("= 3").contains('3'));
    }
}
